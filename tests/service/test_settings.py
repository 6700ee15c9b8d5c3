"""The configuration: where values come from, what is refused, and that secrets stay secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows.service.settings import SECRET_VARIABLES, Settings, load_settings
from pipeline.errors import RecipeError


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TILEWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TILEWRIGHT_SECRETS", str(tmp_path / "secrets"))


def written(folder: Path, text: str) -> Path:
    path = folder / "service.yaml"
    path.write_text(text)
    return path


def refused(path: Path | None = None) -> str:
    with pytest.raises(RecipeError) as raised:
        load_settings(path)
    return str(raised.value)


def test_without_a_file_everything_is_on_loopback(tmp_path: Path) -> None:
    found = load_settings()
    assert found.server.api_url == "http://127.0.0.1:4200/api"
    assert found.cluster.address == "tls://127.0.0.1:8786"
    assert found.pages.base_url == "http://127.0.0.1:4201"
    assert found.home == tmp_path / "home" / ".tilewright" / "service"
    assert found.archives == found.outputs == ()


def test_the_environment_goes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(
        tmp_path,
        f"home: {tmp_path}\narchives: [/a]\nserver: {{port: 4300}}\nruns: {{at_once: 7}}\n",
    )
    monkeypatch.setenv("TILEWRIGHT_SERVER__PORT", "4400")
    monkeypatch.setenv("TILEWRIGHT_OUTPUTS", '["/b", "~/c"]')
    found = load_settings(path)
    assert (found.server.port, found.runs.at_once, found.home) == (4400, 7, tmp_path)
    assert found.archives == (Path("/a"),)
    assert found.outputs == (Path("/b"), tmp_path / "home" / "c")
    monkeypatch.setenv("TILEWRIGHT_CONFIG", str(path))
    assert load_settings() == found


def test_secrets_come_from_files_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "tilewright_server__password").write_text("me:from-file")
    monkeypatch.setenv("TILEWRIGHT_NOTIFY__WEBHOOK", "https://chat.example/secret-token")
    found = load_settings()
    assert found.server.password is not None
    assert found.server.password.get_secret_value() == "me:from-file"
    monkeypatch.setenv("TILEWRIGHT_SERVER__PASSWORD", "me:from-environment")
    found = load_settings()
    assert found.server.password is not None
    assert found.server.password.get_secret_value() == "me:from-environment"
    for shown in (str(found), repr(found), found.model_dump_json()):
        assert "from-environment" not in shown
        assert "secret-token" not in shown


@pytest.mark.parametrize(
    ("section", "name"), [("server", "password"), ("server", "database"), ("notify", "webhook")]
)
def test_a_secret_in_the_file_is_refused_and_not_shown(
    section: str, name: str, tmp_path: Path
) -> None:
    said = refused(written(tmp_path, f"{section}: {{{name}: hunter2}}\n"))
    assert "hunter2" not in said
    variable = f"TILEWRIGHT_{section}__{name}".upper()
    assert variable in said
    assert variable in SECRET_VARIABLES
    assert f"{section}.{name}" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {port: 70000}", ["server.port", "65535", "70000"]),
        ("sever: {}", ["sever"]),
        ("log_to: printer", ["log_to", "files", "printer"]),
        ("[1, 2]", ["mapping"]),
        ("a: [", ["not valid YAML"]),
        ("runs: {retries: -1}", ["runs.retries", "-1"]),
    ],
)
def test_errors_name_the_file_the_key_and_the_limit(
    text: str, words: list[str], tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    said = refused(path)
    for word in [str(path), *words]:
        assert word in said


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    assert str(tmp_path / "no.yaml") in refused(tmp_path / "no.yaml")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.4", "tilewright.lab", "::"])
def test_it_does_not_start_open(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = written(tmp_path, f"server: {{host: '{host}'}}\n")
    said = refused(server)
    assert host in said
    assert "TILEWRIGHT_SERVER__PASSWORD" in said
    monkeypatch.setenv("TILEWRIGHT_SERVER__PASSWORD", "me:x")
    assert load_settings(server).server.host == host
    for section, key in (("pages", "host"), ("cluster", "dashboard_host")):
        pages = written(tmp_path, f"{section}: {{{key}: '{host}'}}\n")
        assert f"{section}.{key}" in refused(pages)
        within = written(tmp_path, f"private_network: true\n{section}: {{{key}: '{host}'}}\n")
        assert isinstance(load_settings(within), Settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_asks_for_no_password(host: str, tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, f"server: {{host: '{host}'}}\n")).server.host == host


def test_who_listens_everywhere_is_reached_at_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEWRIGHT_SERVER__PASSWORD", "me:x")
    path = written(
        tmp_path,
        "server: {host: 0.0.0.0, url: 'http://server:4200/api'}\ncluster: {host: 0.0.0.0}\n",
    )
    found = load_settings(path)
    assert found.server.api_url == "http://server:4200/api"
    assert found.cluster.address == "tls://127.0.0.1:8786"


def test_a_secret_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "TILEWRIGHT_SERVER__PASSWORD"
    secret.write_text("user:word")
    monkeypatch.setenv("TILEWRIGHT_SECRETS", str(tmp_path))
    path = written(tmp_path, "server: {port: 4300}\n")
    password = load_settings(path).server.password
    assert password is not None
    assert password.get_secret_value() == "user:word"
    read_text = Path.read_text

    def refuse(self: Path, *given: Any, **named: Any) -> str:
        if self == secret:  # the tests may run as root, who reads all
            raise PermissionError(13, "Permission denied", str(self))
        return read_text(self, *given, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert str(secret) in refused(path)
