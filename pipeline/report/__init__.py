"""The report of a run: one page that a biologist can read, mail and archive.

`summary` reads the records once, `planes` reads small regions of what was published, `thumbnails`
draws them, `sections` and `gallery` make HTML of it, and `page` puts it together.
"""

from pipeline.report.artifacts import summary_note, summary_rows
from pipeline.report.page import write_report

__all__ = ["summary_note", "summary_rows", "write_report"]
