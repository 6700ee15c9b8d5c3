"""Image sources: find the images of an archive, open one, read a box of it."""

from pipeline.sources.archive import discover, expand
from pipeline.sources.base import Source, SourceSpec, open_source
from pipeline.sources.names import distinct_names

__all__ = ["Source", "SourceSpec", "discover", "distinct_names", "expand", "open_source"]
