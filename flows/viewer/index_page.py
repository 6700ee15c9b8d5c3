"""The list of a run's images."""

from __future__ import annotations

from pathlib import Path

from flows.viewer.images import RunImages
from pipeline import report
from pipeline.label_rows import label_rows, table_label
from pipeline.manifest import ImageRow
from pipeline.report.wording import escaped, image_size, plural, whole

#: Images a page.
LISTED = 100
INDEX_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
STYLE = """
a.card { color: inherit; text-decoration: none; }
a.card:hover, a.card:focus-visible { border-color: var(--accent); }
.place img { max-width: 100%; max-height: 100%; image-rendering: auto; }
.gallery { grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
.place { height: 240px; background: var(--picture); color: #c8d0d6; }
.quarantined { color: var(--bad); font-weight: 600; }
nav { display: flex; gap: 24px; margin-top: 24px; }
nav a { color: var(--accent); }
"""


def index_page(images: RunImages, first: int) -> str:
    """The images from number `first` on, `LISTED` of them.

    Parameters
    ----------
    images : RunImages
    first : int
    """
    style = (Path(report.__file__).parent / "style.css").read_text("utf-8")
    label = images.recipe.get("label", "images")
    cards = "".join(_card(number, row, images) for number, row in images.rows(first, LISTED))
    csv = f" All objects: <code>{escaped(images.csv)}</code>." if images.csv else ""
    archive = images.record.get("archive", "")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escaped(label)}: {plural(len(images.names), "image")}</title>
<style>
{style}{STYLE}</style>
</head>
<body>
<main>
<header><p class="kicker">tilewright view</p>
<h1>{escaped(label)}</h1>
<p class="archive">{escaped(archive)}</p>
<p class="intro">{plural(len(images.names), "image")}. Choose one to see its labels over its
pixels. Drag to move, Ctrl and the wheel to zoom; click a layer's name to hide or show it.{csv}</p>
</header>
<section><div class="gallery">{cards}</div>{_turn(len(images.names), first)}</section>
</main>
</body>
</html>
"""


def _card(number: int, row: ImageRow, images: RunImages) -> str:
    name = f"<b>{escaped(row.name)}</b>"
    if row.status != "published":
        return (
            f'<div class="card"><div class="place">no labels</div><figcaption>{name}'
            f'<span class="quarantined">{escaped(row.status)}</span>'
            f"<span>{escaped(row.reason)}</span></figcaption></div>"
        )
    found = ", ".join(_found(one) for one in label_rows(row))
    files = "".join(
        f"<span>{escaped(one.what)}: <code>{escaped(one.place)}</code></span>"
        for one in images.files(row)
    )
    return (
        f'<a class="card" href="v/{number}/"><div class="place">'
        f'<img loading="lazy" src="thumbnails/{number}" alt="no picture"></div>'
        f"<figcaption>{name}<span>published · {found}</span>"
        f"<span>{image_size(row.details['shape'])}</span>{files}</figcaption></a>"
    )


def _found(row: ImageRow) -> str:
    """How many objects a label has, or its classes."""
    classes = row.details.get("classes")
    if classes:
        return f"classes {', '.join(escaped(name) for name, *_ in classes)}"
    label = table_label(row)
    count = int(row.details["objects"])
    return f"{whole(count)} {escaped(label)}" if label else plural(count, "object")


def _turn(count: int, first: int) -> str:
    """Links to the images before and after these."""
    links = []
    if first > 0:
        before = max(0, first - LISTED)
        links.append(f'<a href="?first={before}">← from {whole(before + 1)}</a>')
    if first + LISTED < count:
        after = first + LISTED
        links.append(f'<a href="?first={after}">from {whole(after + 1)} of {whole(count)} →</a>')
    return f"<nav>{''.join(links)}</nav>" if links else ""
