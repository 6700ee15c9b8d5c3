"""What people mark in images by hand: points and shapes in tables, GeoJSON and napari's files."""
