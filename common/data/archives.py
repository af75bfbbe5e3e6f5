"""Zip and tar archives: whether they are whole, and unpacking them without leaving the folder."""

import errno
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from tqdm import tqdm

from common.errors import CourseError, DataError
from common.files import file_hash, hold, os_advice, own_prefix, remove_orphans
from common.paths import display
from common.progress import progress_bar

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_CHUNK = 1 << 18
_DEEPEST = 64
_LARGE = 10**8  # from here on a progress bar is shown
IN_BYTES = {"unit": "B", "unit_scale": True}  # of a progress bar
_PYTHONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

# Names that mean a device on Windows, whatever their suffix, and characters it does not allow.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$) *(\..*)?", re.IGNORECASE)
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*\x00-\x1f]|\A |[. ]\Z')
_PLAIN = re.compile(r"[\w-]{1,100}\.\w{1,10}", re.ASCII)
_WINDOWS = os.name == "nt"


def extract(archive: str | Path, dest: str | Path) -> Path:
    """Unpacks a zip or tar archive into the folder `dest`, whole or not at all.

    A folder `dest` that exists is left as it is: it was unpacked before. Several processes may
    call this at once; what killed ones have left is removed.

    Raises:
        DataError: if the archive is damaged, of a kind that Python cannot read, does not fit on
            the disk, or has a member that is no plain file or folder inside `dest`: an absolute
            path, `..`, a link, a device. Says what to do.
    """
    archive, dest = Path(archive), Path(dest)
    if dest.is_dir():
        return dest
    with hold_until_made(dest, f"unpacks {archive.name}"):
        if not dest.is_dir():
            try:
                _extract(archive, dest)
            except CourseError:
                raise
            except Exception as error:  # nobody documents what damaged archives bring
                raise _not_unpacked(archive, dest, error) from error
    return dest


@contextmanager
def hold_until_made(path: Path, what: str) -> Iterator[None]:
    """As `hold`, for one process at a time to make a file or folder; the lock file does not stay.

    Args:
        path: What is made.
        what: What the other process does.
    """
    lock = path.with_name(f".{path.name}.lock")
    with hold(lock, what):
        yield
    # Whoever holds the lock from here on finds what was made: it may as well be another file.
    with suppress(OSError):
        lock.unlink()


def check_archive(path: Path) -> None:
    """Opens an archive and reads its directory (of a tar, all of it); members are not unpacked.

    Raises:
        DataError: if it is none or not a whole one; says why.
    """
    try:
        with _open(path) as file:
            if isinstance(file, zipfile.ZipFile):
                ends = [
                    (m.header_offset, m.header_offset + m.compress_size) for m in file.infolist()
                ]
                if any(start < 0 or end > file.start_dir for start, end in ends):
                    raise DataError("parts of it are missing")
            else:
                ends = file.getmembers()
                _read_to_end(file)
    except NotImplementedError:
        return  # whole, but of a kind that `extract` cannot read, and tells of
    except CourseError:
        raise
    except Exception as error:
        raise DataError(_short(error)) from error
    if not ends:
        raise DataError("there is nothing in it")


def name_problem(name: str, everywhere: bool = True) -> str | None:
    """Why a name that others chose must not become the name of a file; `None` if it may.

    Args:
        name: A path within a folder.
        everywhere: Also refuse what one of the systems cannot have; by default all of them.
    """
    if _PLAIN.fullmatch(name) and not _DEVICE.fullmatch(name):
        return None  # what nearly all are, told ten times as fast
    for flavour in (PurePosixPath, PureWindowsPath):
        path = flavour(name)
        if path.anchor or ".." in path.parts:
            return "lies outside of the folder"
    parts = PureWindowsPath(name).parts  # both kinds of slashes
    if not parts or "\0" in name:
        return "is no name"
    if len(parts) > _DEEPEST:
        return f"lies more than {_DEEPEST} folders deep"
    if everywhere or _WINDOWS:
        # Windows drops dots and spaces at the end, so that ".. " is "..".
        if any(_NOT_ON_WINDOWS.search(part) or _DEVICE.fullmatch(part) for part in parts):
            return "is a name that Windows does not allow"
    if everywhere:
        if "\\" in name:
            return "has a backslash"
        try:
            long = any(len(os.fsencode(part)) > 255 for part in parts)
        except UnicodeEncodeError:
            return "cannot be a file's name"
        if long:
            return "is too long"
    return None


def check_space(what: str, size: int, folder: Path) -> None:
    """Makes sure that so many bytes fit into a folder.

    Args:
        what: What takes them, as in "a.zip needs".

    Raises:
        DataError: if they do not.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{what} {size:,} bytes, {folder} has {free:,} free. Free some space or choose "
            "another folder (COURSE_DATA)."
        )


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    open: Callable[[], IO[bytes]]


def _open(path: Path) -> zipfile.ZipFile | tarfile.TarFile:
    with open(path, "rb") as file:
        # Not `is_zipfile`: a tar may end with a zip.
        is_zip = file.read(4) in (b"PK\3\4", b"PK\5\6", b"PK\7\10")
    return zipfile.ZipFile(path) if is_zip else tarfile.open(path)


def _read_to_end(file: tarfile.TarFile) -> None:
    """Checks what gzip, bzip2 and xz have at their ends: the checksum of all before it."""
    while file.fileobj.read(_CHUNK):
        pass


def _extract(archive: Path, dest: Path) -> None:
    remove_orphans(dest.parent, "extracting")
    temporary = Path(tempfile.mkdtemp(prefix=own_prefix("extracting"), dir=dest.parent))
    try:
        with _open(archive) as file:
            read = _zip_members if isinstance(file, zipfile.ZipFile) else _tar_members
            members = read(archive, dest, file)
            size = _unpacked_size(archive, members)
            check_space(f"{archive} unpacks to", size, dest.parent)
            made = {temporary}
            options = {"total": size, "disable": size < _LARGE} | IN_BYTES
            with progress_bar(None, f"unpacking {archive.name}", **options) as bar:
                for member in members:
                    _unpack(archive, member, temporary, made, bar)
            if isinstance(file, tarfile.TarFile):
                _read_to_end(file)
        with suppress(OSError):
            temporary.chmod(0o755)  # mkdtemp's folder is the owner's alone
        temporary.rename(dest)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _zip_members(archive: Path, dest: Path, file: zipfile.ZipFile) -> list[_Member]:
    members = []
    for info in file.infolist():
        # Some programs on Windows write its own slashes.
        name = info.filename.replace("\\", "/")
        _check_name(archive, name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(archive, name, "is a link or a device")
        if info.flag_bits & 1:
            raise _by_hand(archive, dest, f"{display(name)!r} is encrypted")
        if info.compress_type not in _PYTHONS:
            method = zipfile.compressor_names.get(info.compress_type, info.compress_type)
            raise _by_hand(archive, dest, f"packed by the method {method}")
        is_folder = name.endswith("/")
        size = 0 if is_folder else info.file_size
        members.append(_Member(name, size, is_folder, partial(file.open, info)))
    return members


def _tar_members(archive: Path, dest: Path, file: tarfile.TarFile) -> list[_Member]:
    members = []
    for info in file.getmembers():
        _check_name(archive, info.name)
        # No data set needs links, and a chain of them is hard to judge.
        if not (info.isfile() or info.isdir()):
            raise _unsafe(archive, info.name, "is a link or a device")
        opener = partial(file.extractfile, info)
        members.append(_Member(info.name, info.size, info.isdir(), opener))
    return members


def _unpack(archive: Path, member: _Member, root: Path, made: set[Path], bar: tqdm) -> None:
    path = root / PurePosixPath(member.name)
    try:
        folder = path if member.is_folder else path.parent
        if folder not in made:
            folder.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        if member.is_folder:
            return
        target = open(path, "xb")
    except (FileExistsError, NotADirectoryError) as error:
        # Also two names that differ for the archive only: in case, or in how accents are written.
        if not member.is_folder and path.is_file() and _is_same(member, path):
            return
        raise _unsafe(archive, member.name, "comes twice, with other content") from error
    size = 0
    with target, member.open() as source:
        while data := source.read(_CHUNK):
            size += len(data)
            if size > member.size:
                break
            target.write(data)
            bar.update(len(data))
    if size != member.size:
        raise ValueError(f"{member.name!r} is not as long as the archive says")


def _is_same(member: _Member, path: Path) -> bool:
    if path.stat().st_size != member.size:
        return False
    with member.open() as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == file_hash(path)


def _check_name(archive: Path, name: str) -> None:
    if problem := name_problem(name, everywhere=False):
        # A folder "./" is the folder itself.
        if PurePosixPath(name).parts or not name:
            raise _unsafe(archive, name, problem)


def _unpacked_size(archive: Path, members: list[_Member]) -> int:
    if any(member.size < 0 for member in members):
        raise ValueError("a member of negative size")
    size = sum(member.size for member in members)
    packed = archive.stat().st_size
    if size > max(10**9, 200 * packed):
        raise DataError(
            f"{archive} is not unpacked: from {packed:,} bytes would come {size:,}, which no data "
            "set does. Fetch it from a source you trust."
        )
    return size


def _unsafe(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{archive} is not unpacked: its member {display(name)[:200]!r} {why}. Fetch it from a "
        "source you trust."
    )


def _by_hand(archive: Path, dest: Path, why: str) -> DataError:
    return DataError(
        f"{archive} cannot be unpacked from Python ({why}). Unpack it by hand, with 7-Zip or "
        f"unzip, into the folder {dest}, then run the same again."
    )


def _not_unpacked(archive: Path, dest: Path, error: Exception) -> DataError:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENAMETOOLONG, errno.EILSEQ):
        return _by_hand(archive, dest, f"{error.strerror}: {display(error.filename)[-200:]}")
    if number not in (None, errno.EINVAL):  # EINVAL: sought where the file does not reach
        why = f"{error.strerror or error}. {os_advice(error)}"
        return DataError(f"Could not unpack {archive} into {dest}: {why}")
    if isinstance(error, NotImplementedError):
        return _by_hand(archive, dest, _short(error))
    return DataError(f"{archive} is damaged ({_short(error)}). Delete it and run again.")


def _short(error: Exception) -> str:
    return display(" ".join(str(error).split()))[:200] or type(error).__name__
