"""`tilewright view`: the images of a run and their labels in a browser.

`images` knows what was published and where it lies, `state` describes one image to the viewer
(`layers` what it shows of it, `contrast` how bright), `client` and `index_page` make the pages,
`app` answers requests behind `gate`, and `serve` listens.

The viewer is neuroglancer: of its package only the files for the browser are used. It reads chunks
straight from the published OME-Zarr, those alone that are on the screen.
"""

from flows.viewer.serve import view_run

__all__ = ["view_run"]
