"""The rounds of the watershed; `pipeline.methods.watershed` puts them in order."""
