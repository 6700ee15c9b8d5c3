"""What is written of the object table beside it, where a recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.anndata_table import digest_of_folder, write_anndata
from pipeline.files import digest_of_file
from pipeline.job import ImageJob
from pipeline.joined import Joined
from pipeline.label_rows import table_label
from pipeline.manifest import ImageRow
from pipeline.measurements.bands import Measured
from pipeline.objects import first_bands
from pipeline.outlines.geojson import write_outlines
from pipeline.output import OUTLINES, TABLES, OutputPlan, place_of
from pipeline.run_folder import RunFolder
from pipeline.storage import AnyPath, path_of
from pipeline.storage.reading import open_file


def write_extra_files(
    job: ImageJob, output: OutputPlan, joined: Joined, measured: Measured | None
) -> dict[str, str]:
    """Stage the outlines and the AnnData table of one image, when its table is there.

    Returns
    -------
    dict
        What was written -> its digest.
    """
    wanted = job.recipe.output
    found = {}
    if wanted.outlines is not None and measured is not None:
        home = first_bands(job.grid, joined)
        found[OUTLINES] = write_outlines(output.outlines, job, measured, home, output.table)
    if wanted.table is not None:
        label = job.recipe.label
        place = output.root / place_of(TABLES, label)
        found[TABLES] = write_anndata(place, output.table, label, output.zarr_format)
    return found


def damaged_files(folder: RunFolder, row: ImageRow) -> Iterator[str]:
    """Lines about published files of one label that are not what was published."""
    places: dict[str, tuple[AnyPath, Callable[[AnyPath], str]]] = {
        OUTLINES: (folder.outlines_path(row.name, table_label(row)), _digest_of),
        TABLES: (
            path_of(row.details["location"]) / place_of(TABLES, row.details["label"]),
            digest_of_folder,
        ),
    }
    for name, expected in row.details.get("files", {}).items():
        path, read = places[name]
        try:
            if read(path) != expected:
                yield f"{path}: the {name} were changed or are missing"
        except OSError as error:
            yield f"{path}: the {name} cannot be read ({error})"


def _digest_of(path: AnyPath) -> str:
    with open_file(str(path)) as stream:
        return digest_of_file(stream)
