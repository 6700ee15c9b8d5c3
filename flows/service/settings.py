"""The one configuration of the service: a YAML file, the environment, files of secrets.

The environment goes before the file: ``TILEWRIGHT_SERVER__PORT=4300``. Secrets are taken from the
environment, or from files in TILEWRIGHT_SECRETS (``/run/secrets``) named as the variable, and
never from the YAML file, so that it can be shown, mounted and kept under version control.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pipeline.errors import RecipeError
from pipeline.storage import AnyPath, StorePath, path_of
from pipeline.validation import all_wrong, explained

#: Where the configuration is, unless TILEWRIGHT_CONFIG names a file.
DEFAULT_CONFIG = Path("~/.tilewright/service.yaml")
#: Fields that are refused in the file.
SECRET_FIELDS = {("server", "password"), ("server", "database"), ("notify", "webhook")}
SECRET_VARIABLES = {f"TILEWRIGHT_{section}__{name}".upper() for section, name in SECRET_FIELDS}
#: How names of variables with the keys of stores begin.
STORE_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")

Place = Annotated[Path, AfterValidator(lambda path: path.expanduser())]


def _root(value: object) -> AnyPath:
    """A folder on disk, or the address of one in a store."""
    try:
        place = path_of(str(value)) if isinstance(value, str) else value
    except RecipeError as error:
        raise ValueError(str(error).rstrip(".")) from None
    if not isinstance(place, Path | StorePath):
        raise ValueError("not a path, nor an address such as s3://bucket/folder")  # noqa: TRY004
    return place.expanduser() if isinstance(place, Path) else place


def _writable(place: AnyPath) -> AnyPath:
    if isinstance(place, StorePath) and not place.can_list:
        raise ValueError(f"{place} is on the web, which is only read from: name a bucket")
    return place


Root = Annotated[AnyPath, PlainValidator(_root)]
WritableRoot = Annotated[Root, AfterValidator(_writable)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Section):
    """The Prefect server, its API and pages.

    `host`, `port`: where it listens. `url`: the API as others reach it; by default of host and
    port. `database`: a PostgreSQL URL, secret; by default SQLite in `home`. `password`: asked of
    everybody, in the form ``user:password``, secret; needed beyond this machine.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=4200, ge=1, le=65535)
    url: str | None = None
    database: SecretStr | None = None
    password: SecretStr | None = None

    @property
    def api_url(self) -> str:
        return self.url or f"http://{reachable(self.host)}:{self.port}/api"


class Cluster(Section):
    """The Dask cluster.

    `host`, `port`, `dashboard_port`: where the scheduler listens; the dashboard is on loopback
    unless `dashboard_host` says otherwise. `scheduler`: its address as others reach it; by default
    of host and port. `dashboard`: URL of the dashboard as browsers reach it. `workers`: CPU worker
    processes a machine; by default one a core. `gpus`: GPUs of this machine, by number; by default
    all. `memory_gib`: limit of a worker; by default none. `lifetime_minutes`: workers end by
    themselves after it, give or take a tenth, so that a batch system does not kill them.
    `worker_name`: by default Dask's; the Dask operator gives one to each pod.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8786, ge=1, le=65535)
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = Field(default=8787, ge=1, le=65535)
    scheduler: str | None = None
    dashboard: str | None = None
    workers: int | None = Field(default=None, ge=1)
    gpus: tuple[str, ...] | None = None
    memory_gib: float | None = Field(default=None, gt=0)
    lifetime_minutes: float | None = Field(default=None, gt=0)
    worker_name: str | None = None

    @property
    def address(self) -> str:
        return self.scheduler or f"tls://{reachable(self.host)}:{self.port}"

    @property
    def dashboard_url(self) -> str:
        own = f"http://{reachable(self.dashboard_host)}:{self.dashboard_port}"
        return (self.dashboard or own).rstrip("/")


class Pages(Section):
    """Reports and metrics, as the Prefect pages link to them."""

    host: str = "127.0.0.1"
    port: int = Field(default=4201, ge=1, le=65535)
    url: str | None = None

    @property
    def base_url(self) -> str:
        return (self.url or f"http://{reachable(self.host)}:{self.port}").rstrip("/")


class Runs(Section):
    """How runs are done.

    `at_once`: dataset runs beside each other on a runner. `gpu_at_once`: those among them, on all
    runners, that compute on GPUs; by default as many. `retries`: after a fault that may pass,
    such as a lost scheduler, with a pause of 30 s that doubles. `disk_reserve_gib`: no image is
    begun while less is free on the disk of the output. `quarantine_percent`: a run with more
    images refused than that is told of. `health_port`: on loopback, answers ``/health`` while the
    runner asks for runs; by default none.
    """

    at_once: int = Field(default=2, ge=1)
    gpu_at_once: int | None = Field(default=None, ge=1)
    retries: int = Field(default=3, ge=0)
    disk_reserve_gib: float = Field(default=5.0, ge=0)
    quarantine_percent: float = Field(default=5.0, ge=0, le=100)
    health_port: int | None = Field(default=None, ge=1, le=65535)


class Notify(Section):
    """`webhook`: URL that failures and completions are posted to as JSON, secret."""

    webhook: SecretStr | None = None


class Settings(BaseSettings):
    """The whole configuration.

    `home`: the database, keys and logs. `archives`, `outputs`: folders, on disk or in stores
    (``s3://bucket/folder``), that runs may read from and write to, with all that is in them; others
    are refused. `work`: where runs into stores keep unfinished work, if the workers are on several
    machines: a folder or bucket that all of them see; by default on the runner's machine.
    `recipes`: a folder of recipes beside the shipped ones. `private_network`: the hosts are those
    of a network that only this service is in, such as one of compose or Kubernetes, so that pages
    that ask for no password may listen there. `log_to`: files in `home`, or the output of
    `tilewright serve`, for containers, systemd and batch systems.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="TILEWRIGHT_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    home: Place = Field(default=Path("~/.tilewright/service"), validate_default=True)
    archives: tuple[Root, ...] = ()
    outputs: tuple[WritableRoot, ...] = ()
    work: WritableRoot | None = None
    recipes: Place | None = None
    private_network: bool = False
    log_to: Literal["files", "output"] = "files"
    server: Server = Server()
    cluster: Cluster = Cluster()
    pages: Pages = Pages()
    runs: Runs = Runs()
    notify: Notify = Notify()

    @property
    def keys(self) -> Path:
        """Folder of the certificates and keys, see `flows.service.keys`."""
        return self.home / "keys"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        folder = os.environ.get("TILEWRIGHT_SECRETS", "/run/secrets")
        secrets = NestedSecretsSettingsSource(
            file_secret_settings,
            secrets_dir=folder,
            secrets_dir_missing="ok",
            env_prefix="TILEWRIGHT_",
            secrets_nested_delimiter="__",
        )
        # What is given to the class comes from the file: the environment goes before it.
        return env_settings, secrets, init_settings

    @model_validator(mode="after")
    def _closed(self) -> Self:
        """Refuse to start open: who reaches these doors can run code or read the archive."""
        if not is_loopback(self.server.host) and self.server.password is None:
            raise ValueError(
                f"server.host is {self.server.host}, which other machines reach, and there is no "
                "password: set TILEWRIGHT_SERVER__PASSWORD to user:password, or use 127.0.0.1"
            )
        doors = {
            "pages.host": self.pages.host,
            "cluster.dashboard_host": self.cluster.dashboard_host,
        }
        for name, host in doors.items():
            if not is_loopback(host) and not self.private_network:
                raise ValueError(
                    f"{name} is {host}, which other machines reach, and it asks for no password: "
                    "use 127.0.0.1, and a proxy that asks for one in front of it"
                )
        return self


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration.

    Parameters
    ----------
    path : Path, optional
        By default what TILEWRIGHT_CONFIG names, else `DEFAULT_CONFIG`, which need not exist.

    Raises
    ------
    RecipeError
        With the file, the key, the value and what would be valid.
    """
    named = path or (Path(os.environ["TILEWRIGHT_CONFIG"]) if _configured() else None)
    file = named or DEFAULT_CONFIG.expanduser()
    content = _content(file) if named or file.is_file() else {}
    for section, name in sorted(SECRET_FIELDS):
        part = content.get(section)
        if isinstance(part, dict) and name in part:
            variable = f"TILEWRIGHT_{section}__{name}".upper()
            raise RecipeError(
                f"{file}: {section}.{name} is a secret, which does not belong into a file that is "
                f"shown and copied. Take it out, and set {variable} in the environment, or write "
                f"it to a file of that name in /run/secrets."
            )
    try:
        return Settings(**content)
    except ValidationError as error:
        # The input is not shown: it may be a secret.
        where = f"{file}, or TILEWRIGHT_... in the environment"
        lines = all_wrong(error, where, lambda item: explained(item, "configuration"))
        raise RecipeError(lines) from None
    except SettingsError as error:
        raise RecipeError(f"the environment: {error}") from None
    except OSError as error:
        raise RecipeError(
            f"{error.filename}: this secret cannot be read ({error.strerror}). Let the service's "
            "user read it, or name another folder in TILEWRIGHT_SECRETS."
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(host: str) -> str:
    """An address to connect to, of one to listen at."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _configured() -> bool:
    return bool(os.environ.get("TILEWRIGHT_CONFIG"))


def _content(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{file}: the configuration cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{file}: not valid YAML: {' '.join(str(error).split())}.") from error
    if found is not None and not isinstance(found, dict):
        raise RecipeError(f"{file}: a configuration is a mapping of keys, not {found!r}.")
    return found or {}
