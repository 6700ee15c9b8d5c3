"""Files that only a plug-in of bioio reads: a plug-in made here, installed for the test."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import plugins
from pipeline.sources.archive import discover, expand
from pipeline.sources.base import SourceSpec, open_source

PLUGIN = '''
import dask.array as da
import numpy as np
import xarray as xr
from bioio_base import exceptions, reader, reader_metadata, types


class Reader(reader.Reader):
    """A .npz of scenes, each (C, Z, Y, X) or (Y, X, S), under the suffix .toy."""

    @staticmethod
    def _is_supported_image(fs, path, **kwargs):
        return path.endswith(".toy") and np.lib.format is not None and _ok(path)

    def __init__(self, image, fs_kwargs={}, **kwargs):
        self._path = str(image)
        if not _ok(self._path):
            raise exceptions.UnsupportedFileFormatError("toy", self._path)

    @property
    def scenes(self):
        with np.load(self._path) as file:
            return tuple(sorted(file.files))

    def _read_delayed(self):
        with np.load(self._path) as file:
            whole = file[self.current_scene]
        dims = "CZYX" if whole.ndim == 4 else "YXS"
        chunks = (1, 1, *whole.shape[2:]) if whole.ndim == 4 else whole.shape
        path, scene = self._path, self.current_scene

        def part(block_info=None):
            with np.load(path) as file:
                where = tuple(slice(*span) for span in block_info[None]["array-location"])
                return file[scene][where]

        data = da.map_blocks(
            part, chunks=da.core.normalize_chunks(chunks, whole.shape), dtype=whole.dtype
        )
        coords = {"C": [f"ch{i}" for i in range(whole.shape[0])]} if dims[0] == "C" else {}
        return xr.DataArray(data, dims=list(dims), coords=coords)

    def _read_immediate(self):
        return self._read_delayed().compute()

    @property
    def physical_pixel_sizes(self):
        return types.PhysicalPixelSizes(2.0, 0.5, 0.25)


def _ok(path):
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


class ReaderMetadata(reader_metadata.ReaderMetadata):
    @staticmethod
    def get_supported_extensions():
        return ["TOY", ".csv"]

    @staticmethod
    def get_reader():
        return Reader
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs the plug-in as pip would, and gives a folder for images."""
    from bioio.plugins import plugins_by_ext_cache

    place, name = tmp_path / "site", "toy_reader"
    (place / name).mkdir(parents=True)
    (place / name / "__init__.py").write_text(PLUGIN)
    info = place / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: bioio-base>=1\n"
    )
    (info / "entry_points.txt").write_text(f"[bioio.readers]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(str(place))
    plugins_by_ext_cache.clear()
    plugins.plugin_suffixes.cache_clear()
    folder = tmp_path / "images"
    folder.mkdir()
    yield folder
    plugins_by_ext_cache.clear()
    plugins.plugin_suffixes.cache_clear()


def save(path, **scenes):
    with path.open("wb") as file:
        np.savez(file, **scenes)


def pixels(shape, dtype="uint16"):
    return np.random.default_rng(8).integers(0, 200, shape).astype(dtype)


def test_what_a_plugin_claims_is_found_and_read(plugin, same):
    image = pixels((2, 3, 17, 19))
    save(plugin / "a.toy", only=image)
    (plugin / "table.csv").write_text("x,y")
    (spec,) = discover(plugin)
    assert (spec.reader, spec.name) == ("bioio", "a")
    assert expand(spec) == [spec]
    with open_source(spec) as source:
        same(source, image[None])
        assert source.info.axes == "czyx"
        assert source.info.channels == ("ch0", "ch1")
        assert source.info.pixel_size_um == (2.0, 0.5, 0.25)
        assert source.info.chunks == (1, 1, 1, 17, 19)


def test_scenes_and_samples(plugin, same):
    colour, plain = pixels((9, 8, 3), "uint8"), pixels((1, 1, 6, 7))
    save(plugin / "a.toy", well1=colour, well2=plain)
    specs = expand(discover(plugin)[0])
    assert [spec.name for spec in specs] == ["a_well1", "a_well2"]
    with open_source(specs[0]) as source:
        same(source, np.moveaxis(colour, -1, 0)[None, :, None])
        assert source.info.channels == ("red", "green", "blue")
    with open_source(specs[1]) as source:
        same(source, plain[None])


def test_a_file_that_the_plugin_does_not_open_is_refused(plugin):
    (plugin / "a.toy").write_bytes(b"not a toy")
    with pytest.raises(UnreadableError, match="no plug-in of bioio opens it"):
        expand(discover(plugin)[0])


def test_a_read_that_fails_is_damage(plugin):
    save(plugin / "a.toy", only=pixels((1, 1, 6, 7)))
    (spec,) = discover(plugin)
    with open_source(spec) as source:
        (plugin / "a.toy").write_bytes(b"gone")
        with pytest.raises(DamageError, match=r"block \(0, 0, 0, 0, 0\)"):
            source.read(0, [0], source_box(source))


def source_box(source):
    from pipeline.box import Box

    return Box.whole(source.info.shape[2:])


def test_without_plugins_nothing_more_is_found(tmp_path):
    plugins.plugin_suffixes.cache_clear()
    (tmp_path / "a.toy").write_bytes(b"PK")
    (tmp_path / "b.tif").write_bytes(b"II")
    assert [spec.name for spec in discover(tmp_path)] == ["b"]
    with pytest.raises(UnreadableError):
        open_source(SourceSpec("bioio", str(tmp_path / "a.toy"), "a"))
