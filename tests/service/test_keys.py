"""Keys: who has none is not let in."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from flows.service.keys import CA, CERTIFICATE, KEY, key_files, make_keys, security
from pipeline.errors import OutputError, RecipeError


def test_keys_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "service" / "keys"
    made = make_keys(folder)
    assert made == [folder / CA, folder / CERTIFICATE, folder / KEY]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in made)
    assert key_files(folder) == tuple(made)


def test_keys_are_never_replaced(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = (tmp_path / KEY).read_bytes()
    with pytest.raises(OutputError, match="there are keys already"):
        make_keys(tmp_path)
    assert (tmp_path / KEY).read_bytes() == before


def test_missing_and_readable_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tilewright keys"):
        key_files(tmp_path)
    make_keys(tmp_path)
    (tmp_path / KEY).chmod(0o640)
    with pytest.raises(RecipeError, match="chmod 600"):
        security(tmp_path)


def shake_hands(server: Path, client: Path | None) -> bool:
    """Whether a client with some keys, or none, gets an answer of a server with others."""
    listening = socket.create_server(("127.0.0.1", 0))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server / CA))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server / CERTIFICATE, server / KEY)

    def answer() -> None:
        connection, _ = listening.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(b"welcome")
        except (ssl.SSLError, OSError):
            pass

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    ours = ssl.create_default_context(cafile=str((client or server) / CA))
    ours.check_hostname = False  # as Dask does: the key is what counts
    if client is not None:
        ours.load_cert_chain(client / CERTIFICATE, client / KEY)
    try:
        with (
            socket.create_connection(listening.getsockname(), 5) as plain,
            ours.wrap_socket(plain) as secure,
        ):
            return secure.recv(7) == b"welcome"
    except (ssl.SSLError, OSError):
        return False
    finally:
        thread.join()
        listening.close()


def test_only_keys_of_the_service_open_its_doors(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    make_keys(ours)
    make_keys(others)
    assert shake_hands(ours, ours)
    assert not shake_hands(ours, others)
    assert not shake_hands(ours, None)


def test_dask_demands_encryption(tmp_path: Path) -> None:
    make_keys(tmp_path)
    found = security(tmp_path)
    assert found.require_encryption
    for role in ("client", "scheduler", "worker"):
        assert found.get_connection_args(role)["ssl_context"].verify_mode == ssl.CERT_REQUIRED
