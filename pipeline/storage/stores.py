"""Opened object stores: one a bucket and process, with time limits and retries.

Credentials, region and endpoint come from the environment alone, as the tools of each provider
spell them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
AWS_ENDPOINT_URL, AWS_SKIP_SIGNATURE (public buckets); GOOGLE_SERVICE_ACCOUNT or
GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from obstore.exceptions import (
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from pipeline.errors import RecipeError

#: Scheme -> whether it can be written to and listed.
SCHEMES = {
    "s3": True,
    "gs": True,
    "az": True,
    "https": False,
    "http": False,
}
#: Scheme -> variables of the environment that a store's keys are read from.
KEYS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or AWS_SKIP_SIGNATURE=true for "
    "a public bucket",
    "gs": "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
#: Codes of an answer that there is no bucket, or container.
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
#: What machines of a provider ask for keys when the environment has none.
KEY_SERVERS = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
#: One request, and all the tries of one.
REQUEST_S = float(os.environ.get("TILEWRIGHT_STORE_REQUEST_S", "60"))
RETRY_S = float(os.environ.get("TILEWRIGHT_STORE_RETRY_S", "180"))
RETRIES = 10
#: Pauses between the tries that are ours; each is twice as long as the one before.
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 2.0
#: What of a library's message is not passed on: queries of URLs, and pages of the store.
INNER = re.compile(r"\?[^\s=]+=\S*|<.*")

T = TypeVar("T")


@functools.lru_cache(maxsize=32)
def open_store(root: str) -> ObjectStore:
    """The store of a bucket or host, such as "s3://bucket" or "https://host".

    Raises
    ------
    RecipeError
        Its address is not understood.
    """
    named = ("ENDPOINT", "GOOGLE_BASE_URL")
    endpoints = [v for key, v in os.environ.items() if any(n in key.upper() for n in named)]
    plain = root.startswith("http://") or any(e.startswith("http://") for e in endpoints)
    options: Any = {
        "timeout": timedelta(seconds=REQUEST_S),
        "connect_timeout": timedelta(seconds=min(REQUEST_S, 10)),
        "allow_http": plain,
    }
    retries: Any = {
        "max_retries": RETRIES,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=15),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=RETRY_S),
    }
    try:
        return from_url(root, client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise RecipeError(f"{root}: cannot be opened as a store: {first_line(error)}.") from error


def retried(ask: Callable[[], T]) -> T:
    """Ask a store, and again where the answer broke off.

    The library asks again by itself, but not when an answer ends in its middle that it takes for a
    refusal. What is asked must be the same when it is done twice.
    """
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            return ask()
        except BaseError as error:
            if not may_ask_again(error, began, pause):
                raise
        time.sleep(pause)
        pause *= 2


async def retried_async(ask: Callable[[], Awaitable[T]]) -> T:
    """The same for what is awaited."""
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            return await ask()
        except BaseError as error:
            if not may_ask_again(error, began, pause):
                raise
        await asyncio.sleep(pause)
        pause *= 2


def may_ask_again(error: BaseError, began: float, pause: float) -> bool:
    """Whether another answer may be hoped for, and there is still time."""
    is_open = isinstance(error, GenericError) and pause < LAST_PAUSE_S
    return is_open and time.monotonic() - began < RETRY_S


@contextmanager
def as_os_errors(url: str) -> Iterator[None]:
    """Raise what a store answers as the errors that files on disk raise."""
    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        raise _os_error(error, url) from error


def _os_error(error: Exception, url: str) -> OSError:
    text = str(error)
    if any(code in text for code in NO_BUCKET):
        # Never a missing file: what asks for one would go on as if the bucket were empty.
        return OSError(errno.ENXIO, "there is no such bucket; check its name, or make it", url)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", url)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        reason = f"the store refuses it ({first_line(error)}); {_keys(url)}"
        return PermissionError(errno.EACCES, reason, url)
    if any(place in text for place in KEY_SERVERS):
        return PermissionError(errno.EACCES, f"no keys were found; {_keys(url)}", url)
    reason = f"the store did not answer as it should ({first_line(error)})"
    return OSError(errno.EIO, reason, url)


def _keys(url: str) -> str:
    """Where the keys of a store are read."""
    scheme = url.partition("://")[0]
    return f"keys are read from the environment: {KEYS.get(scheme, KEYS['s3'])}"


def first_line(error: BaseException) -> str:
    """What went wrong, without the request's inner life.

    The query of a URL may hold a signature, and the store's own page the name of a key: neither
    belongs into logs and pages.
    """
    text = str(error).strip().splitlines()
    return INNER.sub("", text[0])[:300].rstrip(" :") if text else type(error).__name__
