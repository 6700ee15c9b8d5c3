"""The parts of the page above and below the pictures, each as HTML."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

import yaml

from pipeline.report.certificate import certificate_words
from pipeline.report.summary import Line, Summary
from pipeline.report.wording import decimal, duration, escaped, image_size, plural, whole
from pipeline.run_folder import RunFolder

#: Place of the engine's own steps; those of the method come second, in the order of its rounds.
STEPS_AROUND = {
    "ingest": 0,
    "quality": 0,
    "join": 2,
    "publish": 3,
    "publish-probabilities": 4,
    "publish-fragments": 5,
    "table": 6,
}


def heading(record: dict[str, Any]) -> str:
    """Title: recipe, archive, state of the run."""
    recipe = record["recipe"]
    description = recipe.get("description") or ""
    intro = f'<p class="intro">{escaped(description)}</p>' if description else ""
    return f"""<header>
<p class="kicker">tilewright {escaped(record["tilewright"])} · run {escaped(record["status"])}</p>
<h1>{escaped(recipe["label"])}</h1>
<p class="archive">{escaped(record["archive"])}</p>
{intro}</header>"""


def headline(record: dict[str, Any], found: Summary) -> str:
    """The numbers that one looks for first."""
    counts, total_s = record["counts"], float(record["timings"]["total_s"])
    quarantined = int(counts["quarantined"])
    speed = decimal(found.fresh_pixels / 1e6 / total_s) if found.fresh_images and total_s else "–"
    cards = [
        (whole(counts["published"]), f"of {plural(counts['images'], 'image')} published", ""),
        (whole(quarantined), "quarantined", "bad" if quarantined else ""),
        (whole(len(record["classes"])), "classes", "")
        if record.get("classes")
        else (whole(counts["objects"]), "objects", ""),
        (decimal(counts["pixels"] / 1e6), "megapixels", ""),
        (duration(total_s), "wall time", ""),
        (speed, "megapixels a second", ""),
    ]
    items = "".join(
        f'<li class="{kind}"><strong>{value}</strong><span>{name}</span></li>'
        for value, name, kind in cards
    )
    kept = int(counts["published"]) - found.fresh_images
    note = (
        f'<p class="note">{plural(kept, "image")} had been published by an earlier command; time '
        f"and speed are those of the last one, which did {whole(found.fresh_images)}.</p>"
        if kept > 0
        else ""
    )
    return f'<ul class="numbers">{items}</ul>{note}'


def certificate(record: dict[str, Any], folder: RunFolder) -> str:
    """What is certified, how it is known, and how to check it."""
    found = record["certificate"]
    kind = "good" if found["exact"] else "open"
    rules = "".join(f"<li>{escaped(rule)}</li>" for rule in found["rules"] if rule)
    bound = found["images_with_a_bound"]
    named = f"<p>Without proof: {', '.join(escaped(name) for name in bound)}.</p>" if bound else ""
    verify = f"tilewright verify {shlex.quote(str(folder.root))}"
    how = f"<p>What it rests on:</p><ul>{rules}</ul>" if rules else ""
    return f"""<section class="certificate {kind}">
<h2>Tiled equals untiled</h2>
<p class="statement">{escaped(certificate_words(record))}</p>{named}{how}
<dl><dt>Digest of all labels</dt><dd><code>{escaped(found["labels_digest"])}</code></dd>
<dt>Check the files against it</dt><dd><code>{escaped(verify)}</code></dd></dl>
<p class="note">Two runs with the same digest have the same label in every pixel of every image.</p>
</section>"""


def timing(found: Summary, record: dict[str, Any]) -> str:
    """Predicted against actual time, and where the time went."""
    if not found.stages:
        return ""
    most = max(found.predicted_s, found.work_s, 1e-9)
    bars = [
        _bar("Predicted", found.predicted_s, most, "predicted"),
        _bar("Actual", found.work_s, most, "actual"),
    ]
    longest = max(found.stages.values()) or 1e-9
    in_order = sorted(found.stages, key=lambda name: STEPS_AROUND.get(name, 1))
    stages = [_bar(name, found.stages[name], longest, "stage") for name in in_order]
    ratio = found.work_s / found.predicted_s if found.predicted_s > 0 else 0.0
    times = f", {decimal(ratio)} times the prediction" if ratio else ""
    wall = duration(float(record["timings"]["total_s"]))
    parts = _parts(record["timings"])
    return f"""<section><h2>Time</h2>
<div class="halves"><div><h3>Predicted and actual work</h3>{"".join(bars)}
<p class="note">All published images together{times}. Predicted are CPU seconds; actual is the time
that images were at work, so it is less for images that several workers shared. The command took
{wall} from start to end{parts}.</p></div>
<div><h3>Actual work by stage</h3>{"".join(stages)}</div></div></section>"""


def _parts(timings: dict[str, Any]) -> str:
    """Named parts of the total: "startup_s" is the start-up."""
    named = {key[:-2]: s for key, s in timings.items() if key.endswith("_s") and key != "total_s"}
    parts = ", ".join(
        f"{escaped(name.replace('_', ' '))} {duration(float(seconds))}"
        for name, seconds in named.items()
    )
    return f" ({parts})" if parts else ""


def _bar(name: str, seconds: float, most: float, kind: str) -> str:
    return (
        f'<div class="bar {kind}"><span>{escaped(name)}</span>'
        f'<i><b style="width:{100 * seconds / most:.1f}%"></b></i>'
        f"<span>{duration(seconds)}</span></div>"
    )


def failures(record: dict[str, Any], found: Summary, command: str) -> str:
    """Quarantined images, why, and what to do."""
    count = int(record["counts"]["quarantined"])
    if not count:
        return ""
    rows = "".join(
        f"<tr><td>{escaped(row.name)}</td><td>{escaped(row.reason)}</td></tr>"
        for row in found.failures
    )
    return f"""<section class="failures"><h2>{plural(count, "quarantined image")}</h2>
<p>These could not be processed; the others were not affected. When the cause is removed, the same
command tries them again and keeps everything that is published:</p>
<pre><code>{escaped(command)}</code></pre>
<div class="wide"><table><thead><tr><th>Image</th><th>Reason</th></tr></thead>
<tbody>{rows}</tbody></table></div>{_left_out(count - len(found.failures), "quarantined image")}
</section>"""


def all_images(found: Summary) -> str:
    """The table of all images."""
    if not found.lines:
        return '<section><h2>All images</h2><p class="note">No image is on record.</p></section>'
    heads = ["Image", "Status", "Size", "Objects", "Megapixels", "Seconds", "Labels digest"]
    numeric = {3, 4, 5}
    if any(line.files for line in found.lines):
        heads.append("Files")
    head = "".join(
        f"<th{' class=n' if i in numeric else ''}><button>{name}</button></th>"
        for i, name in enumerate(heads)
    )
    rows = "".join(_rows(found, "Files" in heads))
    more = ', and in <a href="objects.csv">objects.csv</a>' if found.csv else ""
    return f"""<section><h2>All images</h2>
<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>
<tbody>{rows}</tbody></table></div>{_left_out(found.images - len(found.lines), "image")}
<p class="note">Numbers of every single object are in <code>objects.parquet</code>{more}.</p>
</section>"""


def _files(line: Line) -> str:
    """Links to outlines; what is a folder in an OME-Zarr is only named."""
    return ", ".join(
        f'<a href="{escaped(one.link)}">{escaped(one.what)}</a>'
        if one.link
        else f'<span title="{escaped(one.place)}">{escaped(one.what)}</span>'
        for one in line.files
    )


def _rows(found: Summary, with_files: bool) -> Iterable[str]:
    for line in found.lines:
        files = f"<td>{_files(line)}</td>" if with_files else ""
        name = f"<td>{escaped(line.name)}</td>"
        if line.status != "published":
            yield (
                f'<tr>{name}<td class="{escaped(line.status)}">{escaped(line.status)}</td>'
                '<td></td><td class="n" data-v="-1"></td><td class="n" data-v="-1"></td>'
                f'<td class="n" data-v="-1"></td><td></td>{files}</tr>'
            )
            continue
        yield (
            f"<tr>{name}<td>published</td>"
            f'<td data-v="{line.pixels}">{image_size(line.shape)}</td>'
            f'<td class="n" data-v="{line.objects}">{whole(line.objects)}</td>'
            f'<td class="n" data-v="{line.pixels}">{decimal(line.pixels / 1e6)}</td>'
            f'<td class="n" data-v="{line.seconds:.6f}">{decimal(line.seconds)}</td>'
            f'<td><code title="{escaped(line.digest)}">{escaped(line.digest[:12])}</code></td>'
            f"{files}</tr>"
        )


def _left_out(count: int, noun: str) -> str:
    if count <= 0:
        return ""
    return f'<p class="note">{plural(count, "more " + noun)} not listed here; see run.sqlite.</p>'


def recipe(record: dict[str, Any]) -> str:
    """The whole recipe, defaults included."""
    text = yaml.safe_dump(record["recipe"], sort_keys=False, allow_unicode=True)
    return f"<details><summary>Recipe</summary><pre><code>{escaped(text)}</code></pre></details>"


def versions(record: dict[str, Any]) -> str:
    """What the run ran on."""
    facts = {
        "tilewright": record["tilewright"],
        **record["versions"],
        **record["machine"],
        "plan": record["plan"],
    }
    rows = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in facts.items())
    return f"<details><summary>Versions</summary><dl>{rows}</dl></details>"
