"""Measurements of whole objects: one file a family, merged from tiles exactly."""
