"""Makes sure that what a user names is there, before anything is imported or started for it."""

import os
from pathlib import Path

from common.errors import DataError, did_you_mean
from common.files import check_output
from common.paths import display, expand
from common.training.run_folders import run_folder


def check_run(run: str | Path | None, phase: str | None = None) -> str | Path | None:
    """Gives back the name or folder of a finished run.

    Args:
        run: Name under `outputs/runs`, or path of its folder; `None` for none.
        phase: That it has to be of.

    Raises:
        ConfigError, DataError: as `run_folder`.
    """
    if run is not None:
        run_folder(run, phase)
    return run


def check_path(path: Path | None) -> Path | None:
    """Gives back a file or folder that is there, with `~` replaced.

    Raises:
        DataError: if there is none.
    """
    if path is None:
        return None
    path = expand(path)
    try:
        if os.path.exists(path):
            return path
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
    except (OSError, ValueError):  # a name that no file can have, a folder that cannot be read
        beside = []
    raise DataError(f"There is no file or folder {display(path)}.{did_you_mean(path.name, beside)}")


def check_paths(paths: list[Path] | None) -> list[Path] | None:
    """The same for several."""
    return None if paths is None else [check_path(path) for path in paths]


def check_file_output(path: Path | None) -> Path | None:
    """Gives back where a file can be written, with `~` replaced.

    Raises:
        CourseError: if it cannot.
    """
    if path is None:
        return None
    path = expand(path)
    check_output(path)
    return path
