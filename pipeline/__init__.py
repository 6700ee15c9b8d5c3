"""What is computed: images, methods, joining, publication. Knows neither Dask nor Prefect."""

__version__ = "0.1.0"
