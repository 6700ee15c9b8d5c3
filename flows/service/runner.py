"""The runner: renews what the service offers, and becomes Prefect's worker."""

from __future__ import annotations

import os
import sys

from flows.service.deployments import apply_deployments
from flows.service.settings import load_settings
from pipeline.errors import TilewrightError


def main() -> None:
    """Make the deployments, then run the command of the arguments in this process's place."""
    try:
        apply_deployments(load_settings())
    except TilewrightError as error:
        sys.exit(str(error))
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
