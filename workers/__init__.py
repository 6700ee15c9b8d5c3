"""Where it is computed: Dask clusters and the windowed submission of batches of tiles."""
