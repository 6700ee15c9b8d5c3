"""Open an image of a run in napari, as a user would, and keep a picture of the window.

    xvfb-run -a python docs/make_napari.py OUT/images/NAME.ome.zarr docs/images/napari.png

Needs `pip install "napari[pyqt6]" napari-ome-zarr`; `xvfb-run` where there is no screen.
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari


def main(image: Path, picture: Path) -> None:
    viewer = napari.Viewer(show=False)
    viewer.window.resize(1200, 800)
    viewer.open(str(image), plugin="napari-ome-zarr")
    for layer in viewer.layers:
        print(f"{layer.name}: {type(layer).__name__}, {layer.data[0].shape}, scale {layer.scale}")
    labels = [layer for layer in viewer.layers if isinstance(layer, napari.layers.Labels)]
    assert labels, "napari shows no labels"
    for layer in labels:
        layer.visible, layer.contour = True, 2
    viewer.reset_view()
    viewer.screenshot(str(picture), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
