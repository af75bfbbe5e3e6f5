"""Downloads that survive a cut line, a kill, a wrong mirror, a log-in page, a second process."""

import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from common.data import connections
from common.data.archives import IN_BYTES, check_space, extract, hold_until_made
from common.data.connections import CHUNK, Failed, new_session
from common.data.downloaded import check_content, remember_hash, web_page
from common.errors import ConfigError, DataError
from common.files import check_output, file_hash, flush_to_disk, os_advice, read_json, write_json
from common.paths import display
from common.progress import progress_bar, tell

__all__ = ["download", "downloading", "extract", "file_hash"]

logger = logging.getLogger(__name__)

# Files that come in a moment need no notes for a later process to go on from.
_SMALL = 1 << 18
_MUCH = 1 << 20
# Seconds for which a server may ask to be left alone.
_LONGEST_WAIT = 300


def download(
    urls: str | Sequence[str],
    path: str | Path,
    sha256: str | None,
    *,
    retries: int = 4,
    backoff: float = 1.0,
    timeout: float = 30.0,
    least_speed: float = 1000.0,
    patience: float = 60.0,
    most_bytes: int = 20 * 10**9,
    progress: bool = True,
    auth: AuthBase | None = None,
    session: requests.Session | None = None,
) -> Path:
    """Downloads a file once; a later call finds it, checked, and returns at once.

    The bytes gather in `<path>.part`, from where a cut or killed download goes on. Without a
    checksum it does so only if the server can tell that the file is still the same, by an ETag or
    a date (kept in `<path>.part.json`); else it starts anew. Several processes may call this at
    once: one downloads, the others wait.

    Args:
        urls: one address, or mirrors of the same file in the order in which to try them.
        path: where the file goes.
        sha256: the published checksum. `None` if nobody publishes one: the file must then open
            as what its name says (archives, JSON, images), and its hash is kept in
            `<path>.sha256`, so that a change is told.
        retries: attempts in a row that bring nothing new before the next mirror is tried.
        backoff: seconds before the second attempt, doubled for each one after it.
        timeout: seconds without a byte after which the line counts as cut.
        least_speed: bytes per second below which it counts as cut, too.
        patience: seconds over which the speed is averaged.
        most_bytes: a longer file is not the wanted one.
        progress: whether to show a progress bar.
        auth: proves to every address who asks, but not to other hosts that it leads on to.
        session: from `new_session`, for one of very many small files in a folder that the caller
            holds: connections are used again, and no lock, no hash and no bar is made for each.

    Returns:
        `path`.

    Raises:
        DataError: if no address gave the right file (names all and what was wrong with each),
            or the disk is full.
        CourseError: if the file cannot be written there.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    # A link stays one: what it leads to is written.
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    job = _Download(
        *(target, (sha256 or "").lower(), retries, backoff, timeout, least_speed, patience),
        *(most_bytes, progress and session is None, auth, session),
    )
    if job.is_present() and not job.part.exists():
        return Path(path)
    if session is not None:
        job.run(urls)
        return Path(path)
    check_output(target)
    with hold_until_made(target, f"downloads {target.name}"):
        if not job.is_present():
            job.run(urls)
        job.drop()
    return Path(path)


@contextmanager
def downloading(missing: str, size: str, ways_out: str, *archives: Path) -> Iterator[None]:
    """Tells how much of a data set is downloaded; adds to an error what to do without it.

    Args:
        missing: What is not where, as "CIFAR-10 is not in data".
        size: As "170 MB".
        ways_out: What a user can do where there is no network.
        archives: What is downloaded: nothing is told if all of them are there.

    Raises:
        DataError: instead of the one that is raised inside.
    """
    if not archives or not all(map(os.path.isfile, archives)):
        tell(f'{missing}: downloading {size} (dataset="synthetic" needs no download).')
    try:
        yield
    except DataError as error:
        raise DataError(
            f"{missing} and could not be downloaded.\n{error}\n{ways_out}\n"
            'Or choose dataset="synthetic" (--dataset synthetic): drawn by code, no download.'
        ) from error


# --- one file ---


@dataclass
class _Download:
    """One call of `download`."""

    path: Path
    sha256: str
    retries: int
    backoff: float
    timeout: float
    least_speed: float
    patience: float
    most_bytes: int
    progress: bool
    auth: AuthBase | None
    session: requests.Session | None

    def __post_init__(self):
        self.part = self.path.with_name(self.path.name + ".part")
        self.notes = self.path.with_name(self.path.name + ".part.json")
        self.present = ""  # what is wrong with the file that is there

    def is_present(self) -> bool:
        """Whether the right file is there; keeps the hash of one that nobody publishes."""
        if not os.path.isfile(self.path):
            return False
        try:
            problem = self._problem(self.path)
        except OSError as error:
            raise DataError(
                f"Could not read {self.path}: {error.strerror or error}. Allow reading it, or "
                "delete it to have it downloaded anew."
            ) from error
        if problem is None:
            if not self.sha256 and self.session is None:
                remember_hash(self.path)
            return True
        if not self.present:
            logger.warning("%s %s: downloading it anew.", self.path, problem)
        self.present = f"What is at {self.path} now {problem}. "
        return False

    def run(self, urls: list[str]) -> None:
        if not urls:
            raise ConfigError(f"{self.present}No address to download {self.path.name} from.")
        reasons = []
        try:
            for url in urls:
                try:
                    self._from_mirror(url)
                except Failed as failure:
                    reasons.append(f"  {url}: {failure}")
                    logger.warning("%s: %s", url, failure)
                else:
                    os.replace(self.part, self.path)
                    break
            else:
                raise DataError(
                    f"Could not download {self.path.name}:\n" + "\n".join(reasons) + "\n"
                    f"{self.present}Check the network and run the same again, or fetch the file by "
                    f"hand and put it at {self.path}."
                )
        except OSError as error:
            raise DataError(
                f"Could not write {self.path}: {error.strerror or error}. {os_advice(error)}"
            ) from error
        finally:
            if not self._can_go_on():
                self.drop()
        if not self.sha256 and self.session is None:
            remember_hash(self.path)

    def drop(self) -> None:
        """Removes what has arrived; what cannot be removed does no harm."""
        for file in (self.part, self.notes):
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def _problem(self, path: Path) -> str | None:
        """What is wrong with a whole file; `None` if nothing is."""
        if self.sha256:
            value = file_hash(path)
            if value == self.sha256:
                return None
            told = f" (it is {page})" if (page := web_page(path)) else ""
            return f"has the sha256 {value} instead of {self.sha256}{told}"
        try:
            check_content(path, self.path.name)
        except DataError as error:
            return display(error)[:300]
        return None

    def _from_mirror(self, url: str) -> None:
        """Fills `part` with the whole, checked file, or raises `Failed`."""
        if not self.sha256:
            connections.warn_of_http(urlsplit(url).scheme, urlsplit(url).netloc)
        failures, longest = 0, self._received()
        while True:
            resumed = self._received() > 0
            try:
                self._attempt(url)
                if problem := self._problem(self.part):
                    # A resumed file may be wrong only because of what lay there before.
                    raise Failed(f"wrong file: {problem}", final=not resumed, drop=True)
                return
            except Failed as failure:
                received = self._received()
                if failure.drop:
                    self.drop()
                if failure.final:
                    raise
                # A line that is cut every few megabytes still gets there, one that brings a few
                # bytes at a time does not.
                least = min(CHUNK, (self._noted()[2] or math.inf) / 100)
                failures = 1 if received > longest + least else failures + 1
                longest = max(longest, received)
                if failures >= self.retries:
                    raise
                wait = self.backoff * 2 ** (failures - 1)
                if failure.wait > wait:
                    wait = failure.wait
                    logger.warning("%s: %s: waiting for %.0f s.", url, failure, wait)
                else:
                    logger.info("%s: %s; trying again", url, failure)
                time.sleep(wait)

    def _attempt(self, url: str) -> None:
        """One request; appends what it brings to `part`."""
        start, validator, total = self._going_on(url)
        if start and start == total:
            return  # killed just before it took its name
        # "identity": a .gz that a server declares as an encoding must not be unpacked on the way.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        session = self.session or new_session(self.least_speed, self.patience)
        with (
            nullcontext() if self.session else session,
            self._ask(session, url, headers) as response,
        ):
            self._check_way(response)
            if response.status_code == 416:
                if self.sha256 and response.headers.get("Content-Range") == f"bytes */{start}":
                    return  # The part is whole already; if not, its hash tells.
                raise Failed("what was there is no beginning of the file (416)", drop=True)
            start, total = self._agree(response, start, validator, total)
            self._receive(url, response, start, total)
        received = self._received()
        if total is not None and received != total:
            raise Failed(f"cut after {received:,} of {total:,} bytes")
        if not received:
            raise Failed("an empty answer")

    def _ask(self, session: requests.Session, url: str, headers: dict) -> requests.Response:
        try:
            return session.get(
                url, headers=headers, stream=True, timeout=self.timeout, auth=self.auth
            )
        except connections.NETWORK as error:
            # Of no use to try again: an address that cannot be parsed, a circle of addresses, a
            # file of certificates that is not there (a bare OSError of requests).
            final = isinstance(error, (ValueError, requests.TooManyRedirects))
            final = final or type(error) is OSError
            raise Failed(connections.reason_of(error), final=final) from error

    def _check_way(self, response: requests.Response) -> None:
        schemes = [urlsplit(hop.url).scheme for hop in (*response.history, response)]
        if not self.sha256 and "https" in schemes and "http" in schemes[schemes.index("https") :]:
            why = "where anybody on the line could change the file"
            raise Failed(f"leads from https to http ({response.url}), {why}", final=True)

    def _agree(
        self, response: requests.Response, start: int, validator: str | None, total: int | None
    ) -> tuple[int, int | None]:
        """Where the answer begins, and how long the whole file is if the server says so."""
        status = response.status_code
        if status == 200:  # The whole file, whether or not a range was asked for.
            if start:
                logger.info("%s is sent from its beginning.", self.path.name)
            length = response.headers.get("Content-Length", "")
            return 0, int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None
        if status == 206:
            span = response.headers.get("Content-Range", "").strip()
            match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", span, re.ASCII)
            if not (start and match and int(match[1]) == start):
                raise Failed(f"asked from byte {start}, answered {span!r}", drop=True)
            length = int(match[2]) + 1 if match[3] == "*" else int(match[3])
            # Some servers know ranges but not `If-Range`.
            same = connections.validator_of(response)
            kept = same == validator or (self.sha256 and not (same and validator))
            if not kept or total not in (None, length):
                raise Failed("the file has changed on the server", drop=True)
            return start, length
        wait = connections.retry_after(response)
        reason = f"{status} {response.reason or ''}".strip()
        if wait > _LONGEST_WAIT:
            raise Failed(f"{reason}: asks to come back in {wait / 60:,.0f} minutes", final=True)
        transient = status >= 500 or status in (408, 425, 429) or wait > 0
        raise Failed(reason, final=not transient, wait=wait)

    def _receive(
        self, url: str, response: requests.Response, start: int, total: int | None
    ) -> None:
        if total == 0:
            raise Failed("an empty answer")
        folder = self.path.parent
        if total is not None:
            if total > self.most_bytes:
                reason = f"it has {total:,} bytes, more than the {self.most_bytes:,} expected"
                raise Failed(reason, final=True)
            check_space(f"{self.path.name} needs", total - start, folder)
        received = start
        options = {"initial": start, "total": total, "disable": not self.progress} | IN_BYTES
        with (
            open(self.part, "ab" if start else "wb") as file,
            progress_bar(None, self.path.name, **options) as bar,
        ):
            # Only now: notes of this file beside bytes of another would join the two.
            self._note(url, response, total)
            for chunk in connections.body(response):
                received += len(chunk)
                if received > self.most_bytes:
                    reason = f"no end after the {self.most_bytes:,} bytes expected"
                    raise Failed(reason, final=True, drop=True)
                if total is None and received > _MUCH and _nearly_full(folder):
                    reason = f"no end after {received:,} bytes, and the disk is nearly full: "
                    reason += "free some space if the file is that long"
                    raise Failed(reason, final=True, drop=True)
                file.write(chunk)
                bar.update(len(chunk))
            flush_to_disk(file)

    # --- what is kept beside the part ---

    def _received(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _note(self, url: str, response: requests.Response, total: int | None) -> None:
        if total is not None and total <= _SMALL:
            self.notes.unlink(missing_ok=True)
            return
        notes = {"url": url, "validator": connections.validator_of(response), "total": total}
        if tuple(notes.values()) != self._noted():
            write_json(self.notes, notes)

    def _noted(self) -> tuple[str | None, str | None, int | None]:
        """The address, what tells versions of the file apart, and its length; `None` if unknown."""
        try:
            noted = read_json(self.notes, dict) if self.notes.exists() else {}
        except DataError:
            noted = {}
        url, validator, total = (noted.get(key) for key in ("url", "validator", "total"))
        if not (isinstance(validator, str) and validator.isascii() and validator.isprintable()):
            validator = None
        return url, validator, total if isinstance(total, int) else None

    def _going_on(self, url: str) -> tuple[int, str | None, int | None]:
        """From which byte to go on, by what the server can tell that the file is still the same,
        and how long that was."""
        known, validator, total = self._noted()
        if known != url:
            validator = total = None
        # Parts of two files could be joined, and nothing would tell.
        return self._received() if validator or self.sha256 else 0, validator, total

    def _can_go_on(self) -> bool:
        return bool(self._received() and (self.sha256 or self._noted()[1]))


def _nearly_full(folder: Path) -> bool:
    usage = shutil.disk_usage(folder)
    return usage.free < min(10**9, usage.total // 20)
