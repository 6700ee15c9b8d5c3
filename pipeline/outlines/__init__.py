"""Outlines of whole objects along the sides of their pixels, as polygons."""
