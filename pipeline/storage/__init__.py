"""Where files lie: on disk, in a bucket, on the web."""

from pipeline.storage.paths import AnyPath, StorePath, absolute_path, is_inside, is_url, path_of

__all__ = ["AnyPath", "StorePath", "absolute_path", "is_inside", "is_url", "path_of"]
