"""Makes sure that what a user names is there, before anything is imported or started for it."""

import os
from pathlib import Path

from common.errors import ConfigError, DataError, did_you_mean
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


def check_path(path: str | Path) -> Path:
    """Gives back a file or folder that is there, with `~` replaced.

    Raises:
        DataError: if there is none.
    """
    path = expand(path)
    try:
        if os.path.exists(path):
            return path
        near = os.listdir(path.parent) if path.parent.is_dir() else []
    except (OSError, ValueError):  # a name that no file can have, a folder that cannot be read
        near = []
    near = did_you_mean(path.name, near, f"{path.parent}{os.sep}" * (path.parent != Path()))
    raise DataError(f"There is no file or folder {display(path)}.{near}")


def check_file_output(path: str | Path) -> Path:
    """Gives back where a file can be written, with `~` replaced.

    Raises:
        CourseError: if it cannot.
    """
    path = expand(path)
    check_output(path)
    return path


def check_batch_size(size: int) -> int:
    """Gives back how many images can be computed at once.

    Raises:
        ConfigError: if they are less than one.
    """
    if size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {size}")
    return size
