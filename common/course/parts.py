"""What a long command has done already, kept beside its output until that is whole."""

import contextlib
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from common.errors import ConfigError
from common.files import check_output, hold, output_lock, remove_orphans, write_atomically
from common.paths import display

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def kept_parts(output: Path) -> Iterator[Path]:
    """The folder of an output's parts, `output + ".parts"`, which goes when all went well.

    It stays after an error or a kill: called again, the command goes on from there. Another
    process that writes the same output is waited for. Nothing is kept for a device or a pipe.

    Raises:
        CourseError: if output or parts cannot be written.
    """
    check_output(output)
    if is_special(output):
        with tempfile.TemporaryDirectory(prefix="course-parts-") as folder:
            yield Path(folder)
        return
    whole = Path(os.path.realpath(output))
    folder = whole.with_name(whole.name + ".parts")
    with hold(output_lock(output), f"writes {output}"):
        check_output(folder / part_name(b""))
        remove_orphans(folder, "writing")
        try:
            yield folder
            for path in folder.iterdir():
                if re.fullmatch(r"[0-9a-f]{24}\.\w+", path.name):  # What is not ours stays.
                    with contextlib.suppress(OSError):
                        path.unlink()
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if it is empty


def is_special(path: Path) -> bool:
    """Whether it is a device or a pipe, which is written into and cannot be read again."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def check_suffix(output: Path, *suffixes: str) -> None:
    """Makes sure that an output is of a kind that can be written, or no plain file.

    Raises:
        ConfigError: if it is not.
    """
    if output.suffix.lower() not in suffixes and not is_special(output):
        wanted = " or ".join(suffixes)
        raise ConfigError(f"--output must name a file that ends in {wanted}. Received: {output}")


def part_name(content: bytes, suffix: str = ".npz") -> str:
    """Names a part by what decides its content."""
    return hashlib.sha256(content).hexdigest()[:24] + suffix


def files_part_name(content: bytes, files: Iterable[Path]) -> str:
    """The same of a part that depends on files besides: on their names and states."""
    told = []
    for file in files:
        try:
            status = file.stat()
            told.append((str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError as error:
            told.append((str(file), str(error)))
    return part_name(content + repr(told).encode("utf-8", "surrogatepass"))


def save_part(path: Path, **arrays: np.ndarray) -> None:
    """Writes arrays as a part."""
    with write_atomically(path) as temporary:
        np.savez(temporary, **arrays)


def load_part(path: Path, length: int) -> dict[str, np.ndarray] | None:
    """The arrays of a part as they were written; `None` if there is none, or it is damaged.

    Args:
        path: Of the part.
        length: Of the first of its arrays.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if len(next(iter(arrays.values()))) != length:
            raise ValueError("it is of something else")
    except Exception as error:  # whatever NumPy and zipfile make of damaged bytes
        tell_damaged(path, error)
        return None
    return arrays


def tell_damaged(path: Path, error: Exception) -> None:
    """Says that a file of an earlier call cannot be used."""
    logger.warning("%s is damaged (%s): made again.", display(path), display(error)[:200])


Item, Begun = TypeVar("Item"), TypeVar("Begun")


def one_ahead(begin: Callable[[Item], Begun], items: Iterable[Item]) -> Iterator[Begun]:
    """What `begin` gives for each item; the next one is begun before one is handed out."""
    begun = []
    for item in items:
        begun.append(begin(item))
        if len(begun) > 1:
            yield begun.pop(0)
    yield from begun


def weights_hash(model, *told: object) -> bytes:
    """Of a network's weights, and of what else decides its answers."""
    digest = hashlib.sha256(repr(told).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.digest()
