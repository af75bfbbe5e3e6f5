"""Connections: what a server says about a file, and lines that are too slow."""

import http.client
import io
import logging
import math
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial

import requests
import urllib3
from requests.adapters import HTTPAdapter

from common.paths import display

logger = logging.getLogger(__name__)

CHUNK = 1 << 16


class Failed(Exception):
    """An attempt that came to nothing.

    Attributes:
        final: The same address is not worth another attempt.
        drop: What has arrived is of no use.
        wait: Seconds for which the server asks to be left alone.
    """

    def __init__(self, reason: str, *, final: bool = False, drop: bool = False, wait: float = 0):
        super().__init__(display(" ".join(reason.split()))[:300])
        self.final, self.drop, self.wait = final, drop, wait


def new_session(least_speed: float = 1000.0, patience: float = 60.0) -> requests.Session:
    """Connections that are given up when they are too slow; see `download`."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(least_speed, patience))
    return session


# --- what a server says ---

NETWORK = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


def body(response: requests.Response) -> Iterator[bytes]:
    """What an answer brings, as it comes, not unpacked.

    Raises:
        Failed: if the line breaks.
    """
    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (*NETWORK, http.client.HTTPException) as error:
        raise Failed(reason_of(error)) from error


def validator_of(response: requests.Response) -> str | None:
    """What tells versions of a file apart, byte by byte: an ETag, else the time of its change."""
    tag = response.headers.get("ETag", "").strip()
    if tag.startswith('"'):  # W/"..." may stand for files that differ
        return tag
    modified, date = (response.headers.get(name) for name in ("Last-Modified", "Date"))
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    # A file may change twice within a second; RFC 7232 (2.2.2) wants a minute.
    return modified if age.total_seconds() >= 60 else None


def retry_after(response: requests.Response) -> float:
    """The seconds after which to come back, 0 if the server does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0


def reason_of(error: Exception) -> str:
    """The innermost reason: requests and urllib3 wrap the telling part several times."""
    reason = error
    while isinstance(
        inner := getattr(reason, "reason", None) or (reason.args or [None])[0], Exception
    ):
        reason = inner
    return f"{type(error).__name__}: {reason}"


@cache
def warn_of_http(scheme: str, host: str) -> None:
    """Tells, once of each host, that anybody on the line could change what comes from there."""
    if scheme == "http":
        logger.warning(
            "What comes from http://%s has neither encryption nor a published checksum: whoever "
            "is on the line can change it.",
            host,
        )


# --- lines that are too slow ---


class _Adapter(HTTPAdapter):
    """Gives up connections that bring less than `least_speed` bytes per second over `patience`
    seconds; a timeout alone is put off by every single byte."""

    def __init__(self, least_speed: float, patience: float):
        self.response_class = partial(_Response, least_speed=least_speed, patience=patience)
        super().__init__()

    def get_connection_with_tls_context(self, *args, **kwargs):
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if not isinstance(pool.ConnectionCls, partial):
            pool.ConnectionCls = partial(self._connection, pool.ConnectionCls)
        return pool

    def _connection(self, kind, *args, **kwargs):
        connection = kind(*args, **kwargs)
        connection.response_class = self.response_class
        return connection


class _Response(http.client.HTTPResponse):
    def __init__(self, sock, *args, least_speed: float, patience: float, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self._watched = _Watched(self.fp.detach(), least_speed, patience)
        self.fp = io.BufferedReader(self._watched)

    def begin(self):
        super().begin()
        # What a server says beside sending one on is of no use, but is read.
        self._watched.headers_are_read(10**6 if 300 <= self.status < 400 else math.inf)


class _Watched(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, least_speed: float, patience: float):
        self.raw, self.least_speed, self.patience = raw, least_speed, patience
        self.least, self.most = math.inf, math.inf  # headers have to come within `patience`
        self.since, self.bytes = time.monotonic(), 0

    def headers_are_read(self, most: float) -> None:
        self.least, self.most = self.least_speed * self.patience, most
        self.since, self.bytes = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self.raw.readinto(buffer)
        self.bytes += count or 0
        if self.bytes > self.most:
            raise ConnectionError("an answer without an end")
        now = time.monotonic()
        if now - self.since >= self.patience:
            if self.bytes < self.least:
                seconds = now - self.since
                raise ConnectionError(f"too slow: {self.bytes:,} bytes in {seconds:.0f} s")
            self.since, self.bytes = now, 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()
