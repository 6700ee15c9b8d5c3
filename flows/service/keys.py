"""Keys of the service: certificates that every Dask process shows, and checks of others.

One authority that nobody else knows signs one certificate. Whoever has its key may join the
cluster, and so run code on it: the folder is for the service's own user, on each of its machines.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import OutputError, RecipeError

if TYPE_CHECKING:
    from distributed.security import Security

CA, CERTIFICATE, KEY = "ca.pem", "service.pem", "service-key.pem"
DAYS = 3650


def make_keys(folder: Path) -> list[Path]:
    """Make an authority and a certificate; the authority's key is forgotten.

    Parameters
    ----------
    folder : Path
        Made with access for the owner alone.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        If there are keys already, or the folder cannot be written.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    paths = [folder / name for name in (CA, CERTIFICATE, KEY)]
    if there := [path for path in paths if path.exists()]:
        raise OutputError(
            f"{there[0]}: there are keys already, and machines that have copies of them would be "
            f"shut out by others. Delete {folder} first if that is what you want."
        )

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: str, is_authority: bool) -> x509.Certificate:
        public = (ca_key if is_authority else key).public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("tilewright authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=DAYS))
            .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), True)
            .sign(ca_key, hashes.SHA256())
        )

    pem = serialization.Encoding.PEM
    contents = [
        certificate("tilewright authority", True).public_bytes(pem),
        certificate("tilewright service", False).public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    ]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in zip(paths, contents, strict=True):
            with os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(content)
    except OSError as error:
        raise OutputError(f"{folder}: keys cannot be written here ({error.strerror}).") from error
    return paths


def security(folder: Path) -> Security:
    """What Dask processes show, and demand of others.

    Raises
    ------
    RecipeError
        If there are no keys.
    """
    from distributed.security import Security

    ca, certificate, key = (str(path) for path in key_files(folder))
    parts = {
        f"tls_{role}_{what}": path
        for role in ("client", "scheduler", "worker")
        for what, path in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=ca, require_encryption=True, **parts)


def key_files(folder: Path) -> tuple[Path, Path, Path]:
    """The authority's certificate, the service's, and its key.

    Raises
    ------
    RecipeError
        If one is missing, or others than the owner can read the key.
    """
    paths = folder / CA, folder / CERTIFICATE, folder / KEY
    for path in paths:
        if not path.is_file():
            raise RecipeError(
                f"{path}: there is no such key. `tilewright keys` makes keys on one machine; copy "
                f"{folder} to the others."
            )
    if _is_open(paths[-1].stat(), os.geteuid()):
        raise RecipeError(
            f"{paths[-1]}: others can read this key, and whoever has it can run code on the "
            f"cluster. Run `chmod 600 {paths[-1]}`."
        )
    return paths


def _is_open(status: os.stat_result, user: int) -> bool:
    """Whether others than this user can read a file.

    Root may share one of its own with the user's group, as Kubernetes does.
    """
    shared = status.st_uid == 0 and user != 0
    return bool(status.st_mode & (0o037 if shared else 0o077))
