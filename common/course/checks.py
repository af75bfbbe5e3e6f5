"""Makes sure that what a user names is there, before anything is imported or started for it."""

import os
import re
from pathlib import Path

from common.errors import ConfigError, DataError, did_you_mean
from common.files import check_output, read_json
from common.paths import display, expand, outputs_dir


def check_run(run: str | Path | None, phase: str | None = None) -> str | Path | None:
    """Gives back the name or folder of a finished run.

    Args:
        run: Name under `outputs/runs`, or path of its folder; `None` for none.
        phase: That it has to be of.

    Raises:
        ConfigError: if there is none, it has not finished, or is one of another phase.
        DataError: if its record is damaged.
    """
    if run is not None:
        find_run(run, phase)
    return run


def find_run(run: str | Path, phase: str | None = None) -> Path:
    """The folder of a finished run, see `check_run`."""
    root = outputs_dir() / "runs"
    try:
        folder = next((f for f in (root / run, expand(run)) if f.is_dir()), None)
    except (OSError, ValueError):  # a name that no folder can have
        folder = None
    if folder is None or not str(run).strip():
        names = [p.parent.relative_to(root).as_posix() for p in root.glob("**/record.json")]
        advice = did_you_mean(run, names) or (
            " `report` lists what there is."
            if names
            else " No run has finished there yet: the training lessons make them, as "
            "`run phase1 --lesson 03`."
        )
        raise ConfigError(f"There is no run {str(run)!r} under {root}, nor such a folder.{advice}")
    if not (folder / "record.json").exists():
        raise ConfigError(f"The run in {folder} has not finished; run its notebook again.")
    if phase is not None:
        found = read_json(folder / "record.json", dict).get("phase", phase)
        if found != phase:
            raise ConfigError(f"The run {str(run)!r} is one of {found}, not of {phase}.")
    return folder


def check_run_name(name: str) -> None:
    """Makes sure that a new run can be called so, see `common.training.runs.Run`.

    Raises:
        ConfigError: if not.
    """
    good = re.fullmatch(r"[\w.=+-]+(/[\w.=+-]+)*", name)
    if not good or any(part.startswith(".") or len(part) > 200 for part in name.split("/")):
        raise ConfigError(
            f"run_name={name[:80]!r} cannot be a folder's name. "
            "Use letters, digits and any of . _ - = + only, at most 200, no dot first."
        )


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
