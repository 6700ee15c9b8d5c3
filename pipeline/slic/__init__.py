"""Rounds of the method `slic`."""
