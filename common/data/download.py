"""Downloads that survive a cut line, a wrong mirror and a second process; safe extraction."""

import hashlib
import logging
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import requests
import urllib3
from filelock import FileLock
from requests.auth import AuthBase
from tqdm import tqdm

from common.errors import ConfigError, DataError
from common.files import write_text

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18


class _Failed(Exception):
    """An attempt that came to nothing; `final` if the same address is not worth another one."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(reason)
        self.final = final


def download(
    urls: str | Sequence[str],
    path: str | Path,
    sha256: str | None,
    *,
    retries: int = 4,
    backoff: float = 1.0,
    timeout: float = 30.0,
    progress: bool = True,
    auth: AuthBase | None = None,
) -> Path:
    """Downloads a file once; a later call finds it, checked, and returns at once.

    The bytes gather in `<path>.part`, from where a cut download goes on. Several processes may
    call this at once: one downloads, the others wait.

    Args:
        urls: one address, or mirrors of the same file in the order in which to try them.
        path: where the file goes.
        sha256: the published checksum. `None` if nobody publishes one: the hash of the first
            download is then kept in `<path>.sha256`, and a later file must agree with it.
        retries: attempts in a row that bring nothing new before the next mirror is tried.
        backoff: seconds before the second attempt, doubled for each one after it.
        timeout: seconds without a byte after which the line counts as cut.
        progress: whether to show a progress bar.
        auth: proves to every address who asks, but not to other hosts that it leads on to.

    Returns:
        `path`.

    Raises:
        DataError: if no address gave the right file (names all and what was wrong with each),
            or the disk is full.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not _is_present(path, sha256):
                if not urls:
                    raise ConfigError(f"No address to download {path.name} from.")
                _Download(path, sha256, retries, backoff, timeout, progress, auth).run(urls)
    except OSError as error:
        raise DataError(
            f"Could not write {path}: {error.strerror or error}. Free some space or choose "
            "another folder (COURSE_DATA); the next try goes on from what is there."
        ) from error
    return path


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """The hexadecimal hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _is_present(path: Path, sha256: str | None) -> bool:
    if not path.is_file():
        return False
    wanted = sha256 or _remembered_hash(path)
    if wanted is None:
        _remember_hash(path)
        return True
    if file_hash(path) == wanted.lower():
        return True
    logger.warning("%s is not the file it should be (sha256): downloading it anew.", path)
    return False


def _hash_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _remembered_hash(path: Path) -> str | None:
    file = _hash_file(path)
    return file.read_text().split()[0] if file.is_file() else None


def _remember_hash(path: Path) -> None:
    value = file_hash(path)
    write_text(_hash_file(path), f"{value}  {path.name}\n")
    logger.warning(
        "%s is unverified: no checksum of it is published. Its sha256 %s is kept in %s, and later "
        "downloads are held to it.",
        path,
        value,
        _hash_file(path).name,
    )


class _Download:
    """One call of `download`, the lock held."""

    def __init__(self, path, sha256, retries, backoff, timeout, progress, auth):
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.published = sha256
        self.sha256 = (sha256 or _remembered_hash(path) or "").lower()
        self.retries, self.backoff, self.timeout = retries, backoff, timeout
        self.progress = progress
        self.auth = auth

    def run(self, urls: list[str]) -> None:
        reasons = []
        for url in urls:
            if not self.sha256:
                # Parts of two files could be joined, and nothing would tell.
                self.part.unlink(missing_ok=True)
            try:
                self._from_mirror(url)
            except _Failed as failure:
                reasons.append(f"  {url}: {failure}")
                logger.warning("%s: %s", url, failure)
                continue
            os.replace(self.part, self.path)
            if not self.published and not _hash_file(self.path).is_file():
                _remember_hash(self.path)
            return
        raise DataError(
            f"Could not download {self.path.name}:\n" + "\n".join(reasons) + "\nCheck the "
            f"network and run the same again, or fetch the file by hand and put it at {self.path}."
        )

    def _from_mirror(self, url: str) -> None:
        """Fills `part` with the whole, checked file, or raises `_Failed`."""
        failures, longest = 0, self._received()
        while True:
            resumed = self._received() > 0
            try:
                self._attempt(url)
                self._check(resumed)
                return
            except _Failed as failure:
                if failure.final:
                    raise
                received = self._received()
                # A line that is cut every few megabytes still gets there.
                failures = 1 if received > longest else failures + 1
                longest = max(longest, received)
                if failures >= self.retries:
                    raise
                logger.info("%s: %s; trying again", url, failure)
                time.sleep(self.backoff * 2 ** (failures - 1))

    def _received(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _check(self, resumed: bool) -> None:
        if not self.sha256:
            return
        value = file_hash(self.part)
        if value != self.sha256:
            self.part.unlink()
            # A resumed file may be wrong only because of what lay there before.
            kept = "" if self.published else f" (kept in {_hash_file(self.path).name})"
            reason = f"wrong file: sha256 {value} instead of {self.sha256}{kept}"
            raise _Failed(reason, final=not resumed)

    def _attempt(self, url: str) -> None:
        """One request; appends what it brings to `part`."""
        start = self._received()
        # "identity": a .gz that a server declares as an encoding must not be unpacked on the way.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with requests.get(
                url, headers=headers, stream=True, timeout=self.timeout, auth=self.auth
            ) as response:
                start, total = self._agree_on_range(response, start)
                if start != total:
                    self._receive(response, start, total)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
            # An address that cannot be parsed is a ValueError too: no use trying it again.
            raise _Failed(_short(error), final=isinstance(error, ValueError)) from error
        if total is not None and self._received() != total:
            raise _Failed(f"cut after {self._received():,} of {total:,} bytes")

    def _agree_on_range(self, response: requests.Response, start: int) -> tuple[int, int | None]:
        """Where the answer begins, and how long the whole file is if the server says so."""
        status = response.status_code
        content_range = response.headers.get("Content-Range", "")
        if status == 200:  # The whole file, whether or not a range was asked for.
            length = response.headers.get("Content-Length", "")
            return 0, int(length) if length.isdecimal() else None
        if status == 206:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", content_range.strip())
            if start and match and int(match[1]) == start:
                return start, int(match[2]) + 1 if match[3] == "*" else int(match[3])
            self.part.unlink(missing_ok=True)
            raise _Failed(f"asked from byte {start}, answered {content_range!r}")
        if status == 416:
            if content_range.strip() == f"bytes */{start}":
                return start, start  # The part is already whole.
            self.part.unlink(missing_ok=True)
            raise _Failed("what was there is no beginning of the file (416)")
        transient = status >= 500 or status in (408, 425, 429)
        raise _Failed(f"{status} {response.reason}".strip(), final=not transient)

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        if total is not None:
            free = shutil.disk_usage(self.path.parent).free
            if total - start > free:
                raise DataError(
                    f"{self.path.name} needs {total - start:,} bytes, {self.path.parent} has "
                    f"{free:,} free. Free some space or choose another folder (COURSE_DATA)."
                )
        with (
            open(self.part, "ab" if start else "wb") as file,
            tqdm(
                desc=self.path.name,
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                disable=not self.progress,
            ) as bar,
        ):
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))


def _short(error: Exception) -> str:
    """The innermost reason: requests and urllib3 wrap the telling part several times."""
    reason = error
    while isinstance(
        inner := getattr(reason, "reason", None) or (reason.args or [None])[0], Exception
    ):
        reason = inner
    return f"{type(error).__name__}: {reason}"


def extract(archive: str | Path, dest: str | Path) -> Path:
    """Unpacks a zip or tar archive into the folder `dest`, whole or not at all.

    A `dest` that exists is left as it is: it was unpacked before.

    Raises:
        DataError: if the archive is damaged, does not fit on the disk, or has a member that is
            no plain file or folder inside `dest`: an absolute path, `..`, a link, a device.
    """
    archive, dest = Path(archive), Path(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{dest}.lock"):
            if not dest.exists():
                _extract(archive, dest)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is damaged ({error}). Delete it and run again.") from error
    except OSError as error:
        raise DataError(
            f"Could not unpack {archive} into {dest}: {error.strerror or error}."
        ) from error
    return dest


def _extract(archive: Path, dest: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".extracting-", dir=dest.parent))
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                _check_zip(archive, file.infolist())
                _check_space(archive, dest, (member.file_size for member in file.infolist()))
                file.extractall(temporary)
        else:
            with tarfile.open(archive) as file:
                _check_tar(archive, file.getmembers())
                _check_space(archive, dest, (member.size for member in file.getmembers()))
                # Filters came with Python 3.11.4.
                safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                file.extractall(temporary, **safe)
        temporary.chmod(0o755)  # mkdtemp's folder is the owner's alone.
        temporary.rename(dest)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_zip(archive: Path, members: Iterable[zipfile.ZipInfo]) -> None:
    for member in members:
        _check_name(archive, member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(archive, member.filename, "is a link or a device")
        if member.flag_bits & 1:
            raise DataError(f"{archive}: {member.filename!r} is encrypted.")


def _check_tar(archive: Path, members: Iterable[tarfile.TarInfo]) -> None:
    for member in members:
        _check_name(archive, member.name)
        # No data set needs links, and a chain of them is hard to judge.
        if not (member.isfile() or member.isdir()):
            raise _unsafe(archive, member.name, "is a link or a device")


def _check_name(archive: Path, name: str) -> None:
    for flavour in (PurePosixPath, PureWindowsPath):
        path = flavour(name)
        if path.anchor or ".." in path.parts:
            raise _unsafe(archive, name, "lies outside of the folder")


def _unsafe(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{archive} is not unpacked: its member {name!r} {why}. Fetch it from a source you trust."
    )


def _check_space(archive: Path, dest: Path, sizes: Iterable[int]) -> None:
    needed, free = sum(sizes), shutil.disk_usage(dest.parent).free
    if needed > free:
        raise DataError(
            f"{archive} unpacks to {needed:,} bytes, {dest.parent} has {free:,} free. "
            "Free some space or choose another folder (COURSE_DATA)."
        )
