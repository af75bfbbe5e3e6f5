"""Where runs lie and how they may be called; imports nothing heavy, so that a wrong name is told
at once."""

import re
from pathlib import Path

from common.errors import ConfigError, did_you_mean
from common.files import read_json
from common.paths import expand, outputs_dir


def runs_dir() -> Path:
    """The folder of all runs."""
    return outputs_dir() / "runs"


def run_folder(run: str | Path, phase: str | None = None) -> Path:
    """The folder of a finished run, by its name under `outputs/runs` or its path.

    Args:
        run: The name, or the path.
        phase: That it has to be of; any if `None`.

    Raises:
        ConfigError: if there is none, it has not finished, or is one of another phase.
        DataError: if its record is damaged.
    """
    root = runs_dir()
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


def check_run_name(name: str) -> str:
    """Gives back what a new run can be called.

    Raises:
        ConfigError: if not.
    """
    good = re.fullmatch(r"[\w.=+-]+(/[\w.=+-]+)*", name)
    if not good or any(part.startswith(".") or len(part) > 200 for part in name.split("/")):
        raise ConfigError(
            f"run_name={name[:80]!r} cannot be a folder's name. "
            "Use letters, digits and any of . _ - = + only, at most 200, no dot first."
        )
    return name
