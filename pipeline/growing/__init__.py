"""Region growing from seeds, from tile to tile."""
