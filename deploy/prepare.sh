#!/usr/bin/env bash
# Write what compose needs and what is not under version control: .env, secrets/ and keys/.
#
#   deploy/prepare.sh ARCHIVE OUTPUTS
#
# Whoever runs this owns the containers' processes and what they write. Nothing is overwritten.
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: deploy/prepare.sh ARCHIVE OUTPUTS" >&2; exit 2; }
archive=$(realpath -e "$1")
outputs=$(realpath -e "$2")
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077

random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

if [ ! -e .env ]; then
  printf 'OWNER=%s:%s\nARCHIVE=%s\nOUTPUTS=%s\n' "$(id -u)" "$(id -g)" "$archive" "$outputs" > .env
fi
if [ ! -e secrets ]; then
  mkdir secrets
  password=$(random)
  printf '%s' "$password" > secrets/postgres_password
  printf 'postgresql+asyncpg://tilewright:%s@postgres:5432/tilewright' "$password" \
    > secrets/tilewright_server__database
  printf 'tilewright:%s' "$(random)" > secrets/tilewright_server__password
fi
if [ ! -e keys ]; then
  if command -v tilewright > /dev/null; then
    TILEWRIGHT_HOME=$PWD TILEWRIGHT_CONFIG=$PWD/service.yaml tilewright keys
  else
    docker run --rm --user "$(id -u):$(id -g)" --env TILEWRIGHT_HOME=/made --volume "$PWD:/made" \
      "${IMAGE:-tilewright:0.1.0}" keys
  fi
fi
echo "The pages ask for: $(cat secrets/tilewright_server__password)"
