"""The pictures: cards of images from all over the archive."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.label_rows import label_rows, labelled_name
from pipeline.manifest import ImageRow
from pipeline.report.summary import Summary
from pipeline.report.views import View, Views, make_views
from pipeline.report.wording import escaped, image_size, plural, whole

log = logging.getLogger(__name__)

#: Height of a picture's place in CSS px, as in style.css: crops are seen pixel by pixel.
PLACE_PX = 320


def gallery(found: Summary, record: dict[str, Any]) -> str:
    """Cards of the pictured images, with what they show."""
    published = int(record["counts"]["published"])
    if not found.pictured:
        return ""
    chosen = (
        f"{whole(len(found.pictured))} of {plural(published, 'published image')}, evenly chosen. "
        if len(found.pictured) < published
        else ""
    )
    cards = "".join(_cards(found.pictured, record["recipe"]))
    in_classes = bool(record.get("classes"))
    title = "Images and classes" if in_classes else "Images and outlines"
    what = "Colours are the classes." if in_classes else "Outlines are the borders of the labels."
    if record["recipe"].get("merge"):
        what = "Strong outlines are the borders of the regions, faint ones of what was merged."
    return f"""<section><h2>{title}</h2>
<p class="note">{chosen}{what} Brightness is stretched for each
picture by itself and only here. Of volumes the middle plane is shown, of time series the first
time point. A large image is shown twice: as a whole, and the part with most outlines at full
resolution, which is the one to judge them by.</p>
<div class="gallery">{cards}</div></section>"""


def _cards(rows: list[ImageRow], recipe: dict[str, Any]) -> Iterator[str]:
    for row in (one for image in rows for one in label_rows(image)):
        try:
            views, trouble = make_views(row, recipe), ""
        except Exception as error:  # one picture must not cost the report
            log.warning("report: no picture of %s: %s", row.name, error)
            views, trouble = Views(None, None), f"No picture: {error}"
        yield _card(row, views, trouble)


def _card(row: ImageRow, views: Views, trouble: str) -> str:
    details = row.details
    pictures = []
    if views.overview is not None:
        pictures.append(_picture(views.overview, row.name, _frame(views)))
    if views.crop is not None:
        pictures.append(_picture(views.crop, row.name, "<em>full resolution</em>"))
    if not pictures:
        pictures = [f'<p class="missing">{escaped(trouble or "too large without a pyramid")}</p>']
    kind = "card two" if len(pictures) == 2 else "card"
    return f"""<figure class="{kind}"><div class="pictures">{"".join(pictures)}</div>
<figcaption><b>{escaped(labelled_name(row))}</b>
<span>{_found(details)} · {image_size(details["shape"])}</span>
<code title="digest of the labels: {escaped(row.digest)}">{escaped(row.digest[:12])}</code>
</figcaption></figure>
"""


def _found(details: Mapping[str, Any]) -> str:
    """How many objects, or the classes in their colours."""
    if not details.get("classes"):
        return plural(int(details["objects"]), "object")
    return " ".join(
        f'<i style="background:rgb({r},{g},{b})" class="swatch"></i>{escaped(name)}'
        for name, r, g, b in details["classes"]
    )


def _picture(view: View, name: str, above: str) -> str:
    """One picture and what lies above it."""
    thumbnail = view.thumbnail
    width = PLACE_PX * thumbnail.width / thumbnail.height
    what = "outlines of the labels" if view.with_pixels else "labels without the image"
    alone = "" if view.with_pixels else '<em class="alone">labels only</em>'
    return (
        f'<div class="place"><div class="picture" style="aspect-ratio:{thumbnail.width}/'
        f'{thumbnail.height};max-width:{width:.0f}px"><img src="{thumbnail.uri}" '
        f'width="{thumbnail.width}" height="{thumbnail.height}" '
        f'alt="{escaped(name)}: {what}">{above}{alone}</div></div>'
    )


def _frame(views: Views) -> str:
    """Where the crop lies in the whole image, in percent of its sides."""
    if views.overview is None or views.crop is None:
        return ""
    height, width = views.overview.box.shape
    top, left = views.crop.box.start
    tall, wide = views.crop.box.shape
    return (
        f'<i style="left:{100 * left / width:.2f}%;top:{100 * top / height:.2f}%;'
        f'width:{100 * wide / width:.2f}%;height:{100 * tall / height:.2f}%"></i>'
    )
