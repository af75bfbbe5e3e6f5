"""Where things lie: the repository, the data and the outputs."""

import os
from pathlib import Path

from common.errors import ConfigError


def repository_root() -> Path | None:
    """The checkout that holds this package, or `None` if the package was installed elsewhere."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() else None


def data_dir() -> Path:
    """The folder of all data sets: `COURSE_DATA`, by default `data/` in the repository.

    Raises:
        ConfigError: if `COURSE_DATA` names something that is not a folder.
    """
    value = os.environ.get("COURSE_DATA")
    if not value:
        return (repository_root() or Path.cwd()) / "data"
    path = Path(value).expanduser()
    if not path.is_dir():
        raise ConfigError(
            f"COURSE_DATA={value!r} is not a folder. Make it, correct the variable, or unset it "
            "to use `data/` in the repository."
        )
    return path


def outputs_dir() -> Path:
    """The folder of runs and executed notebooks: `COURSE_OUTPUTS`, by default `outputs/`."""
    value = os.environ.get("COURSE_OUTPUTS")
    if value:
        return Path(value).expanduser()
    return (repository_root() or Path.cwd()) / "outputs"
