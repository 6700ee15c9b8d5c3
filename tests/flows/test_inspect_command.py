"""`tilewright inspect`: what is said of good and bad files, to people and to machines."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import zarr

from flows.admission import admit_sources
from pipeline.admission import Admitted
from pipeline.sources import discover, distinct_names
from tests.sources.lif_writer import lif_image, write_lif
from workers.submit import run_serially

IMAGE = np.arange(2 * 3 * 40 * 50, dtype="uint16").reshape(2, 3, 40, 50)


@pytest.fixture
def archive(tmp_path):
    """An OME-TIFF of all metadata, a file of two series, one that is cut, and a table."""
    folder = tmp_path / "archive"
    (folder / "deep").mkdir(parents=True)
    tifffile.imwrite(
        folder / "deep" / "a.ome.tif",
        IMAGE,
        photometric="minisblack",
        compression="zlib",
        tile=(16, 32),
        metadata={
            "axes": "TCYX",
            "Channel": {"Name": ["DAPI", "GFP", "RFP"]},
            "PhysicalSizeX": 0.25,
            "PhysicalSizeY": 0.5,
            "TimeIncrement": 2.0,
            "Plane": {"PositionX": [7.0] * 6, "PositionY": [-3.0] * 6},
        },
    )
    with tifffile.TiffWriter(folder / "two.ome.tif", ome=True) as tif:
        tif.write(IMAGE[0, 0])
        tif.write(IMAGE[0, 1])
    tifffile.imwrite(folder / "cut.tif", IMAGE[0, 0])
    (folder / "cut.tif").write_bytes((folder / "cut.tif").read_bytes()[:900])
    (folder / "notes.txt").write_text("dear colleague")
    return folder


def test_for_people(archive, here):
    said = here("inspect", archive, expect=3).stdout
    for line in (
        "deep/a  [TIFF, BigTIFF, OME-TIFF]",
        "axes tcyx: t=2 c=3 y=40 x=50, uint16",
        "channels: DAPI, GFP, RFP",
        "pixel size: y 0.5, x 0.25 um; time step 2 s",
        "stage position: y -3, x 7 um",
        "pyramid levels: 1 (40 x 50)",
        "cheap reads: blocks of 1 x 1 x 1 x 16 x 32 (t, c, z, y, x)",
        "as pixels 23 KiB, as a copy at most 31 KiB",
        "two_s0  [",
        "two_s1  [",
        "bytes: stored in the file above",
        f"WOULD BE QUARANTINED {archive / 'cut.tif'}: is cut off",
        "3 images, 0.0 Mpx",
        "1 files refused",
        "Not looked at: .txt (1)",
    ):
        assert line in said


def test_for_machines(archive, here):
    found = json.loads(here("inspect", archive, "--json", expect=3).stdout)
    assert [image["name"] for image in found["images"]] == ["deep/a", "two_s0", "two_s1"]
    first = found["images"][0]
    assert first["shape"] == {"t": 2, "c": 3, "z": 1, "y": 40, "x": 50}
    assert first["pixel_size_um"] == {"z": None, "y": 0.5, "x": 0.25}
    assert first["origin_um"] == {"z": None, "y": -3.0, "x": 7.0}
    assert first["pixel_bytes"] == IMAGE.nbytes
    assert first["stored_bytes"] == (archive / "deep" / "a.ome.tif").stat().st_size
    assert [e["path"] for e in found["refused"]] == [str(archive / "cut.tif")]
    assert found["other_files"] == {".txt": 1}
    assert found["total"]["images"] == 3


def test_one_file_and_a_glob(archive, here):
    one = here("inspect", archive / "deep" / "a.ome.tif").stdout
    assert one.startswith("a  [")
    assert "Not looked at" not in one
    assert "two_s1" in here("inspect", archive, "--only", "two*").stdout


def test_nothing_to_inspect_is_refused(tmp_path, here):
    assert "does not exist" in here("inspect", tmp_path / "no", expect=2).output
    assert "holds no image" in here("inspect", tmp_path, expect=2).output


def test_names_are_those_of_a_run(archive, here):
    """Also where a pyramid of OME-Zarr is read in place, which is not copied."""
    tifffile.imwrite(archive / "two.tif", IMAGE[0, 0])
    found = json.loads(here("inspect", archive, "--json", expect=3).stdout)
    names = {image["name"] for image in found["images"]}
    assert names == {"deep/a", "two.ome.tif_s0", "two.ome.tif_s1", "two.tif"}


def names_of(here, folder, *options, expect=0):
    said = json.loads(here("inspect", folder, "--json", *options, expect=expect).stdout)
    return {image["name"] for image in said["images"]}, said["refused"]


def test_images_are_called_as_a_run_calls_them(tmp_path, here):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(IMAGE[0, 0], metadata=None)
        tif.write(IMAGE[0, 1, :30], metadata=None)
    for name in ("a_s0.tif", "b.tif", "B.TIF"):
        tifffile.imwrite(tmp_path / name, IMAGE[0, 0])
    group = zarr.open_group(tmp_path / "empty.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(0, 5), dtype="u2", chunks=(1, 1))
    scale = {"version": "0.4", "axes": ["y", "x"], "datasets": [{"path": "0"}]}
    group.attrs["multiscales"] = [scale]
    found = admit_sources(distinct_names(discover(tmp_path)), run_serially)
    names, refused = names_of(here, tmp_path, expect=3)
    assert names == {item.spec.name for item in found if isinstance(item, Admitted)}
    assert names == {"a_s0.tif", "a_s0.tif_2", "a_s1", "b.tif_2", "B.TIF"}
    assert [item["reason"][:18] for item in refused] == ["the image is empty"]
    assert names_of(here, tmp_path, "--only", "b.tif")[0] == {"b.tif_2"}


def test_a_library_that_fails_costs_its_file_alone(tmp_path, here):
    write_lif(tmp_path / "a.lif", lif_image("one", IMAGE[0, 0], "YX"))
    (tmp_path / "deep.zarr").mkdir()
    (tmp_path / "deep.zarr" / ".zattrs").write_text("[" * 100_000)
    right, wrong = (f'Element {key}="one"'.encode("utf-16-le") for key in ("Name", "Nome"))
    data = (tmp_path / "a.lif").read_bytes()
    (tmp_path / "a.lif").write_bytes(data.replace(right, wrong))
    tifffile.imwrite(tmp_path / "ok.tif", IMAGE[0, 0])
    names, refused = names_of(here, tmp_path, expect=3)
    assert names == {"ok"}
    assert len(refused) == 2


def test_metadata_in_a_companion_are_said_to_be_lost(tmp_path, here):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:1"/></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE[0, 0], description=xml, metadata=None)
    tifffile.imwrite(tmp_path / "b.ome.tif", IMAGE[0, 0])
    said = here("inspect", tmp_path).stdout
    assert said.count("lost: ") == 1
    assert "in a.companion.ome, which is not read; each file of its set is an image" in said
    images = json.loads(here("inspect", tmp_path, "--json").stdout)["images"]
    assert [bool(image["lost"]) for image in images] == [True, False]
