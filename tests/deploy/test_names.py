"""Names in the files of deploy/ are those that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deployed import DEPLOY, is_setting, started_as

from flows.service.settings import SECRET_VARIABLES, load_settings
from flows.service.units import MAKERS
from pipeline.errors import RecipeError

FILES = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and not {"secrets", "keys", ".env"} & set(path.relative_to(DEPLOY).parts)
)
CONFIGS = sorted(DEPLOY.rglob("service.yaml"))


def named(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_variables_are_settings(path: Path) -> None:
    for name in re.findall(r"\bTILEWRIGHT_[A-Z_]+", path.read_text()):
        assert is_setting(name), name
    for name in re.findall(r"\btilewright_[a-z]+__[a-z_]+", path.read_text()):
        assert name.upper() in SECRET_VARIABLES, name


def test_a_variable_that_nothing_reads_is_found() -> None:
    assert is_setting("TILEWRIGHT_CLUSTER__LIFETIME_MINUTES")
    assert not is_setting("TILEWRIGHT_CLUSTER__LIFETIME")
    assert not is_setting("TILEWRIGHT_CLUSTER_HOST")
    assert not is_setting("TILEWRIGHT_HOST__PORT__DEEP")


@pytest.mark.parametrize("path", FILES, ids=named)
def test_units_are_known(path: Path) -> None:
    text = path.read_text()
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"tilewright serve[a-z -]*", text))
    for words in re.findall(r"serve((?:,? +[a-z-]+)+)[\]`\n]", text):
        for name in words.replace(",", " ").split():
            assert name in MAKERS, name


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_configuration_is_valid_and_holds_no_secret(path: Path, tmp_path: Path) -> None:
    with started_as(tmp_path, path, {}, {}) as settings:
        assert settings.archives
        assert settings.outputs
        assert settings.server.password is None


def test_configurations_are_found() -> None:
    assert [named(path) for path in CONFIGS] == [
        "kubernetes/service.yaml",
        "service.yaml",
        "slurm/service.yaml",
        "systemd/service.yaml",
    ]


def test_secrets_are_read_as_kubernetes_mounts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume of a secret: files are links into a folder that is replaced as a whole."""
    hidden = tmp_path / "..2026_01_01"
    hidden.mkdir()
    (hidden / "tilewright_server__password").write_text("user:long\n")
    (hidden / "postgres_password").write_text("not ours")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    for name in ("tilewright_server__password", "postgres_password"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    token = tmp_path / "kubernetes.io" / "serviceaccount"
    token.mkdir(parents=True)
    (token / "token").write_text("not ours")
    monkeypatch.setenv("TILEWRIGHT_SECRETS", str(tmp_path))
    monkeypatch.setenv("TILEWRIGHT_SERVER__HOST", "0.0.0.0")
    settings = load_settings(DEPLOY / "kubernetes" / "service.yaml")
    assert settings.server.password is not None
    assert settings.server.password.get_secret_value() == "user:long"


def test_server_does_not_open_without_its_password(tmp_path: Path) -> None:
    with (
        pytest.raises(RecipeError, match="no password"),
        started_as(tmp_path, DEPLOY / "service.yaml", {"TILEWRIGHT_SERVER__HOST": "0.0.0.0"}, {}),
    ):
        pass
