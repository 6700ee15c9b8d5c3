"""Where files lie: on disk, in a bucket, on the web."""

from pipeline.storage.paths import AnyPath, StorePath, is_url, path_of

__all__ = ["AnyPath", "StorePath", "is_url", "path_of"]
