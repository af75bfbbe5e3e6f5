"""Where things lie: the repository, the data and the outputs."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

from common.errors import ConfigError


def repository_root() -> Path | None:
    """The checkout that holds this package, or `None` if the package was installed elsewhere."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() else None


def beside_lessons(phase: str, name: str) -> Path | None:
    """Where something lies that stands beside a phase's lessons, as `weights` or `results`.

    Args:
        phase: The phase's folder.
        name: The folder in it.

    Returns:
        In the checkout whether it is there or not, else as installed with the course; `None` where
        it is not installed.
    """
    if root := repository_root():
        return root / phase / name
    try:
        installed = importlib.metadata.files("deep-learning-course") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (f.locate() for f in installed if f.parts[-3:-1] == (phase, name))
    return next((Path(path).resolve().parent for path in found), None)


def data_dir() -> Path:
    """The folder of all data sets: `COURSE_DATA`, by default `data/` in the repository.

    Raises:
        ConfigError: if `COURSE_DATA` names something that is not a folder.
    """
    value = os.environ.get("COURSE_DATA")
    if not value:
        return (repository_root() or Path.cwd()) / "data"
    path = expand(value, "COURSE_DATA")
    if not path.is_dir():
        raise ConfigError(
            f"COURSE_DATA={value!r} is not a folder. Make it, correct the variable, or unset it "
            "to use `data/` in the repository."
        )
    return path


def outputs_dir() -> Path:
    """The folder of runs and executed notebooks: `COURSE_OUTPUTS`, by default `outputs/`.

    Raises:
        ConfigError: if `COURSE_OUTPUTS` names a user who does not exist.
    """
    value = os.environ.get("COURSE_OUTPUTS")
    if value:
        return expand(value, "COURSE_OUTPUTS")
    return (repository_root() or Path.cwd()) / "outputs"


def home_dir() -> Path | None:
    """The user's home folder; `None` for a user without one, as in many containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand(path: str | Path, what: str = "The path") -> Path:
    """The path with `~` and `~user` replaced.

    Args:
        path: As a user gave it.
        what: What it is, for the error.

    Raises:
        ConfigError: if there is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as error:  # no such user; no such user's name
        raise ConfigError(
            f"{what} {str(path)!r} begins with the home folder of a user who has none. Write the "
            "whole path."
        ) from error


def visible(text: object, lines: bool = False) -> str:
    """A file name, or somebody else's text, with nothing in it that is not seen.

    Control characters, directions of writing that would turn what follows around, and what is no
    character at all (in names that are not UTF-8) become backslash escapes.

    Args:
        text: Anything.
        lines: Leave line breaks and tabs as they are.
    """
    unseen = _UNSEEN_BUT_LINES if lines else _UNSEEN
    return unseen.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def display(text: object, lines: bool = False) -> str:
    """The same for standard output: also what it has no code for becomes a backslash escape."""
    shown = visible(text, lines)
    code = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return shown.encode(code, "backslashreplace").decode(code)
    except LookupError:
        return shown


def cut(text: str, longest: int, mark: str = "...") -> str:
    """A text of at most so many characters, without its middle: names that begin alike often end
    differently."""
    kept = longest * 2 // 3
    tail = kept + len(mark) - longest
    return text if len(text) <= longest else f"{text[:kept]}{mark}{text[tail:]}"


_HIDDEN = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNSEEN = re.compile(f"[\x00-\x1f{_HIDDEN}]")
_UNSEEN_BUT_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_HIDDEN}]")
