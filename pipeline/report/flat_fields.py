"""The flat-field profiles of a run as pictures."""

from __future__ import annotations

import base64
import json
from io import BytesIO

import imagecodecs
import numpy as np
import tifffile

from pipeline.flat_field.profiles import PROFILES
from pipeline.manifest import Manifest
from pipeline.report.wording import escaped
from pipeline.run_folder import RunFolder

#: Side of a picture in px.
SHOWN_PX = 192


def flat_fields(folder: RunFolder, manifest: Manifest) -> str:
    """The section; empty where no profile was estimated."""
    names = sorted(json.loads(manifest.get(PROFILES) or "{}"))
    if not names:
        return ""
    figures = []
    for name in names:
        path = folder.profiles / name
        plane = tifffile.imread(BytesIO(path.read_bytes())).astype(np.float64)
        low, high = float(plane.min()), float(plane.max())
        grey = (255 * (plane - low) / (high - low if high > low else 1)).round().astype(np.uint8)
        png = base64.b64encode(imagecodecs.png_encode(grey)).decode("ascii")
        figures.append(
            f'<figure><img alt="{escaped(path.stem)}" width="{SHOWN_PX}" height="{SHOWN_PX}" '
            f'src="data:image/png;base64,{png}">'
            f"<figcaption>{escaped(path.stem)}: {low:.3g} to {high:.3g}</figcaption></figure>"
        )
    return f"""<section><h2>Flat field</h2>
<p>Estimated from the whole dataset and taken out of every image before it was segmented: the gain,
with a mean of 1, and where it was asked for the offset. Black is the smallest value, white the
largest. The frame is drawn as a square.</p>
<div class="profiles">{"".join(figures)}</div>
<p class="note">The files are in <code>profiles/</code>; as <code>profile:</code> of a recipe, with
<code>resize: true</code>, they correct other images in the same way.</p></section>"""
