"""When it is computed: the Prefect flow and the command line."""
