"""Files written whole or not at all, read with one kind of error, and held by one process."""

import errno
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import psutil
from filelock import FileLock, Timeout

from common.errors import CourseError, DataError
from common.paths import display

logger = logging.getLogger(__name__)


# --- writing ---


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it takes the place of `path` in one step.

    A reader sees the old file or the new one, never a part. On any error the old file stays. A
    link stays one: what it leads to is written. Into a device or a pipe, what was written is copied
    at the end.

    Raises:
        CourseError: if the file cannot be written (a full disk, no permission).
    """
    path = Path(path)
    temporary = None
    if "\0" in str(path):
        raise CourseError(f"{display(path)} cannot be a file's name.")
    try:
        into = _is_written_into(path)
        if path.is_symlink() and not into:
            path = Path(os.path.realpath(path))
        folder = Path(tempfile.gettempdir()) if into else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        _clean_once(folder)
        temporary = _new_file(folder, _suffix(path))
        yield temporary
        if into:
            with open(temporary, "rb") as source, open(path, "ab") as target:
                shutil.copyfileobj(source, target)
            return
        with open(temporary, "r+b") as file:
            flush_to_disk(file)
        with suppress(OSError):  # a file system without permissions
            os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        os.replace(temporary, path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def not_written(path: str | Path, error: OSError) -> CourseError:
    """The error to raise where `path` could not be written."""
    return CourseError(
        f"Could not write {display(path)}: {error.strerror or error}. What was there before is "
        f"untouched. {os_advice(error)}"
    )


def os_advice(error: OSError) -> str:
    """What to do about an error of the system, in a sentence."""
    number = error.errno
    if number is None:  # h5py tells it in words only
        number = next((n for n in _FULL if os.strerror(n) in str(error)), None)
    told = (advice for numbers, advice in _ADVICE.items() if number in numbers)
    advice = next(told, "Look at that folder, or choose another one")
    return f"{advice}, then run the same again."


_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_ADVICE = {
    _FULL: "Free some space or choose another folder",
    (errno.EACCES, errno.EPERM, errno.EROFS): (
        "Allow writing there, close programs that use it, or choose another folder"
    ),
    (errno.ENAMETOOLONG,): "Choose a shorter name",
    (errno.ENOTDIR, errno.EEXIST, errno.EISDIR): (
        "A file stands where a folder has to be, or a folder for a file: move it"
    ),
    (errno.EMFILE,): "Too many files are open: raise the limit (ulimit -n)",
}


def check_output(path: str | Path) -> None:
    """Makes sure, before the work, that a file can be written there; makes its folder.

    Raises:
        CourseError: if it cannot.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _is_written_into(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.lstat()  # tells of a name that is too long
        _new_file(path.parent, "").unlink()
    except OSError as error:
        raise not_written(path, error) from error
    except ValueError as error:  # a null byte
        raise CourseError(f"{display(path)} cannot be a file's name: {error}.") from error


def _is_written_into(path: Path) -> bool:
    """Whether a file cannot be put in the place of `path`: devices, pipes, what is open already."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return False
    special = not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
    return special or str(path).startswith(("/dev/fd/", "/dev/std", "/proc/"))


def _suffix(path: Path) -> str:
    """The last two suffixes: savers choose the format by them."""
    suffix = "".join(path.suffixes[-2:])
    return suffix if len(suffix) < 32 else ""


def _new_file(folder: Path, suffix: str) -> Path:
    while True:
        path = folder / f"{own_prefix('writing')}{secrets.token_hex(4)}{suffix}"
        with suppress(FileExistsError):
            # By `open`, so that the permissions are those of any other new file.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return path


def flush_to_disk(file: BinaryIO) -> None:
    """Makes sure that what was written into a file is on the disk.

    Args:
        file: Open for writing: Windows flushes no others.

    Raises:
        OSError: if the disk fails.
    """
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        # Some file systems cannot flush one file; nothing is lost by that.
        if error.errno not in _NO_FLUSH:
            raise


_NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", -1))


def require_space(folder: Path, n_bytes: int) -> None:
    """Makes sure that a file of this size fits; some libraries crash on a disk that fills up.

    Raises:
        CourseError: if it does not.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise CourseError(
            f"{folder} has {free / 1e6:.0f} MB left and {n_bytes / 1e6:.0f} MB are to be written. "
            "Free some space and run the same again: it goes on where it stopped."
        )


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all.

    What UTF-8 lacks, as parts of file names that were not UTF-8, becomes a backslash escape.
    """
    with write_atomically(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all; what is no number becomes null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- what killed processes leave ---


def own_prefix(kind: str) -> str:
    """How the names of this process's temporary files begin; after its end they are orphans."""
    return f".{kind}-{_machine()}-{os.getpid()}-{_started(os.getpid())}-"


def remove_orphans(folder: Path, kind: str) -> None:
    """Removes temporary files and folders of `own_prefix(kind)` whose processes have ended.

    Those of other machines, and of processes that run, stay.
    """
    begin = f".{kind}-{_machine()}-"
    try:
        names = [name for name in os.listdir(folder) if name.startswith(begin)]
    except OSError:
        return
    for name in names:
        pid, _, rest = name.removeprefix(begin).partition("-")
        if pid.isdecimal() and rest.partition("-")[0] != _started(int(pid)):
            path = folder / name
            with suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


@cache
def _machine() -> str:
    """Eight digits of this machine and, in a container, of its process numbers."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _started(pid: int) -> str:
    """When a process started: its number may have been another's before."""
    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.AccessDenied:
        return "unknown"
    except psutil.Error:
        return "ended"


@cache
def _clean_once(folder: Path) -> None:
    remove_orphans(folder, "writing")


# --- reading ---


def read_json(path: str | Path, kind: type | None = None) -> Any:
    """Reads a JSON file.

    Args:
        path: Of the file.
        kind: What the outermost value has to be, `dict` or `list`.

    Raises:
        DataError: if the file is missing, is no JSON or of another kind, naming the file (and the
            line).
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        value = json.loads(text, parse_constant=lambda name: None)
    except OSError as error:
        raise DataError(f"Could not read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        why = str(error)[:200] or "it is nested too deeply"
        raise DataError(f"{path} is not valid JSON: {why}. Delete it or restore it.") from error
    if kind is not None and not isinstance(value, kind):
        wanted = {dict: "an object", list: "a list"}[kind]
        raise DataError(f"{path} does not hold {wanted}, as it should. Delete it or restore it.")
    return value


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """The hexadecimal hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def zip_problem(path: str | Path) -> str | None:
    """What is wrong with a zip file, all of it read; `None` if nothing is."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except Exception as error:  # whatever zipfile and the methods of packing make of changed bytes
        return str(error) or type(error).__name__
    return f"{bad} is damaged" if bad else None


# --- one process at a time ---


@contextmanager
def hold(path: str | Path, what: str) -> Iterator[None]:
    """Lets one process at a time do what stands inside; the others wait, with a word.

    Within a thread it may be entered again. A process that is killed lets go.

    Args:
        path: The lock file; it stays.
        what: What the other process does, as in "trains the run 'a'".

    Raises:
        CourseError: if the lock file cannot be made.
    """
    path = Path(path)
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(os.path.abspath(path), is_singleton=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning(
                "Waiting for another process that %s, as another lesson of one run may. Ctrl-C "
                "gives up.",
                display(what),
            )
            lock.acquire(poll_interval=0.2)
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in {errno.ENOENT}.union(*_ADVICE):
            raise not_written(path, error) from error
        lock = None
        _warn_once(path.parent, str(error))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@cache
def _warn_once(folder: Path, why: str) -> None:
    logger.warning(
        "%s cannot lock files (%s): do not start the same thing twice at once.", folder, why
    )


def output_lock(path: str | Path) -> Path:
    """A lock file for an output that lies in a user's own folder, where none should stay."""
    name = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()
    user = getattr(os, "getuid", lambda: "user")()
    return Path(tempfile.gettempdir()) / f"course-locks-{user}" / f"{name[:24]}.lock"


# --- who made which run ---

JOURNAL = "COURSE_JOURNAL"  # names the file in which a process writes down the runs that it makes


def note_run(name: str) -> None:
    """Writes down that this process made, or made anew, the record of a run."""
    path = os.environ.get(JOURNAL)
    if path:
        with suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(f"{name}\n")


def keep_warnings() -> None:
    """What the course's code warns of is shown, and written down beside the journal."""
    path = os.environ.get(JOURNAL)
    if path:
        kept = logging.FileHandler(f"{path}.warnings", "a", "utf-8", True, "backslashreplace")
        kept.terminator = "\0"  # one may have several lines
        for handler in (logging.StreamHandler(), kept):
            handler.setLevel(logging.WARNING)
            logging.getLogger("common").addHandler(handler)


def kept_warnings(journal: Path) -> list[str]:
    """What was warned of, each once."""
    try:
        text = Path(f"{journal}.warnings").read_text(encoding="utf-8")
    except OSError:
        return []
    return list(dict.fromkeys(filter(None, text.split("\0"))))
