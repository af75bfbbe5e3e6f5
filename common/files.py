"""Files written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import CourseError, DataError


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it takes the place of `path` in one step.

    A reader sees the old file or the new one, never a part. On any error the old file stays.

    Raises:
        CourseError: if the file cannot be written (a full disk, no permission).
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept: savers choose the format by it.
        handle, name = tempfile.mkstemp(
            prefix=".writing-", suffix="".join(path.suffixes), dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise CourseError(
            f"Could not write {path}: {error.strerror or error}. What was there before is "
            "untouched. Free some space or choose another folder, then run the same again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: if the file is missing or is no JSON, naming the file (and the line).
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Could not read {path}: {error.strerror or error}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Delete it or restore it.") from error
