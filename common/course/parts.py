"""What a long command has done already, kept beside its output until that is whole."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.files import check_output, hold, output_lock, remove_orphans


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
        check_output(folder / part_name(b"", ".parquet"))
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


def part_name(content: bytes, suffix: str) -> str:
    """Names a part by what decides its content."""
    return hashlib.sha256(content).hexdigest()[:24] + suffix


def weights_hash(model, *told: object) -> bytes:
    """Of a network's weights, and of what else decides its answers."""
    digest = hashlib.sha256(repr(told).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.digest()
