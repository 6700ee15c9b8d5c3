"""Models of the bioimage.io collection (https://bioimage.io). Needs bioimageio.spec.

A package is a description, `rdf.yaml`, with files beside it, as a zip archive or a folder. The
description is checked by bioimageio.spec, which looks at nothing but its text here: it opens no
file and asks no server.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bioimageio.spec import InvalidDescr, ValidationContext, build_description

from pipeline.errors import ModelError
from pipeline.nets.archive import check_ratio
from pipeline.nets.places import DESCRIPTIONS, description_of, file_inside
from pipeline.nets.plain_yaml import parse_yaml

#: Where architectures of ours are imported from.
OURS = "pipeline.nets.architectures"


@dataclass(frozen=True, slots=True)
class PackageWeights:
    """The weights that are opened.

    Parameters
    ----------
    kind : str
        "torchscript", "onnx", or the name of an architecture of ours.
    file : str
        In the package.
    sha256 : str or None
        As the description states it.
    arguments : dict
        Of the architecture.
    """

    kind: str
    file: str
    sha256: str | None
    arguments: Mapping[str, Any]


class Package:
    """A bioimage.io package.

    Parameters
    ----------
    path : Path
        The zip archive, or the folder.

    Raises
    ------
    ModelError
        If it cannot be read, or its description is not valid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = self._describe()

    def read(self, name: str) -> bytes:
        """The content of a file of the package."""
        where = str(self.path)
        if self.path.is_dir():
            return file_inside(self.path, name, where).read_bytes()
        try:
            with zipfile.ZipFile(self.path) as archive:
                entry = archive.getinfo(str(PurePosixPath(name)))
                check_ratio(entry, where)
                return archive.read(entry)
        except KeyError:
            raise ModelError(f"{where}: there is no file {name!r} in the package.") from None
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise ModelError(f"{where}: not a zip archive, or damaged ({error}).") from error

    def weights(self) -> PackageWeights:
        """The weights to open: TorchScript, which can be traced, then ONNX.

        Raises
        ------
        ModelError
            If there are only others.
        """
        found = self.description.weights
        for kind in ("torchscript", "onnx"):
            if (entry := getattr(found, kind)) is not None:
                return PackageWeights(kind, _local(entry, self.path), entry.sha256, {})
        state = found.pytorch_state_dict
        if state is not None:
            source, architecture = _local(state, self.path), state.architecture
            if getattr(architecture, "import_from", "") == OURS and source.endswith(".safetensors"):
                arguments = dict(architecture.kwargs)
                return PackageWeights(str(architecture.callable), source, state.sha256, arguments)
        kinds = ", ".join(name for name, entry in found if entry is not None)
        raise ModelError(
            f"{self.path}: its weights are {kinds}; torchscript and onnx are opened. A "
            "pytorch_state_dict comes with Python code, which is not run. Convert it: "
            "`bioimageio add-weights`."
        )

    def _describe(self) -> Any:
        name = self._description_name()
        content = parse_yaml(self.read(name), f"{self.path}: {name}")
        if content.get("type") != "model":
            raise ModelError(f"{self.path}: {name} describes no model (`type: model`).")
        with ValidationContext(perform_io_checks=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a conversion from format 0.4 guesses
            found = build_description(content, format_version="latest")
        if isinstance(found, InvalidDescr):
            wrong = [error for part in found.validation_summary.details for error in part.errors]
            lines = [f"  {'.'.join(map(str, x.loc)) or name}: {x.msg}" for x in wrong if x.msg]
            raise ModelError(f"{self.path}: {name} is not valid:\n" + "\n".join(lines))
        return found

    def _description_name(self) -> str:
        if self.path.is_dir():
            name = description_of(self.path)
        else:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    name = next((x for x in DESCRIPTIONS if x in archive.namelist()), None)
            except (OSError, zipfile.BadZipFile) as error:
                raise ModelError(
                    f"{self.path}: not a zip archive, or damaged ({error})."
                ) from error
        if name is None:
            raise ModelError(
                f"{self.path}: no bioimage.io package: it holds none of {', '.join(DESCRIPTIONS)}."
            )
        return name


def _local(entry: Any, path: Path) -> str:
    """The path of weights in the package; those of a server are not fetched."""
    source = str(getattr(entry.source, "root", entry.source))
    if "://" in source:
        raise ModelError(f"{path}: its weights are at {source}. Download the whole package.")
    return source
