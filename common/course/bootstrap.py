"""The first cell of every notebook, and what it calls.

`CELL` is its exact text; a test compares it with each notebook and `refresh` writes it into them.
A package installed from the repository brings all that the notebooks need, released weights too.
"""

import importlib.metadata
import os
import platform
import re
import sys
import warnings
from pathlib import Path

from common import __version__
from common.paths import repository_root

REPOSITORY = "https://github.com/deep-learning-image-captioning/course"
ARCHIVE = f"{REPOSITORY}/archive/main.zip"  # for pip; not its git address, as git may be missing

CELL = f"""\
import sys

sys.path += ["..", "../.."]  # the repository, if this notebook lies in one
try:
    from common.course.bootstrap import start
except ImportError:  # anywhere else, as on Colab
    %pip install --quiet {ARCHIVE}
    for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
        del sys.modules[name]  # of half a copy
    from common.course.bootstrap import start
start()
"""


def start() -> None:
    """Prints one line on what runs, and another if a requirement is missing.

    Raises:
        CourseError: if a parameter of the lesson is wrong.
    """
    # Without ipywidgets, progress bars are drawn as text: that will do.
    warnings.filterwarnings("ignore", "IProgress not found")
    root = repository_root()
    if root is not None and (missing := missing_requirements(root)):
        print(f"Missing: {', '.join(missing)}. Install: {sys.executable} -m pip install -e {root}")
    if "keras" not in sys.modules:  # later the names may stand for other things
        from common.course.lessons import check_variables

        check_variables(vars(sys.modules["__main__"]))
    if "COURSE_JOURNAL" in os.environ:  # the course's own kernel
        from common.files import keep_warnings

        keep_warnings()
    print(describe())


def missing_requirements(root: Path) -> list[str]:
    """Lines of `requirements.txt` of whose package no version at all is installed."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [
        line.strip()
        for line in lines
        if line.strip() and not line.startswith("#") and not _installed(line)
    ]


# Several packages give the same module: one of them is enough.
_SAME = {"opencv-python": ("opencv-python", "opencv-python-headless", "opencv-contrib-python")}


def _installed(requirement: str) -> bool:
    name = re.match(r"[\w.-]+", requirement.strip()).group()
    for candidate in _SAME.get(name, (name,)):
        try:
            importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
        return True
    return False


def describe() -> str:
    """One line: the version of the course, what computes, and on which device."""
    from common.course.quiet import load_backend

    devices = load_backend()
    import keras

    backend = keras.backend.backend()
    best = next((name for name in devices if not name.startswith("cpu")), None)
    device = f"{best} ({len(devices)} in all)" if best else f"CPU, {os.cpu_count()} cores"
    return (
        f"Course {__version__}, Keras {keras.__version__} on {backend} "
        f"{importlib.metadata.version(backend)}, Python {platform.python_version()}, {device}"
    )
