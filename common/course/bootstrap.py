"""The first cell of every notebook, and what it calls.

`CELL` is its exact text; a test compares it with each notebook and `refresh` writes it into them.
Only the standard library is imported at the top: the cell runs before anything is installed.
"""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from common import __version__
from common.errors import CourseError

REPOSITORY = "https://github.com/deep-learning-image-captioning/course"

CELL = f'''\
# Finds the course's package `common`: installed, in the repository around this notebook, or cloned.
import os
import shutil
import subprocess
import sys
from pathlib import Path

try:
    from common.course.bootstrap import start
except ImportError:
    here, version = Path.cwd(), "v{__version__}"
    home = "{REPOSITORY}"
    address = os.environ.get("COURSE_REPOSITORY", home)
    clone = here / f"course-{{version}}"
    folders = (here, *here.parents, *here.glob("course-*"))  # as a ZIP file of it is unpacked
    root = next((p for p in folders if (p / "common/course/bootstrap.py").is_file()), None)
    if root is None:
        if not shutil.which("git"):
            file = f"{{address}}/archive/refs/tags/{{version}}.zip"
            text = f"Install git and run this again, or unpack {{file}} in {{here}}."
            raise RuntimeError(f"The course has to be cloned. {{text}}") from None
        root, part = clone, here / f".{{clone.name}}-{{os.getpid()}}"
        for choice in (["--branch", version], []):  # the newest state if there is no such version
            command = ["git", "clone", "--quiet", "--depth=1", *choice, address, str(part)]
            git = subprocess.run(command, capture_output=True, text=True)
            if git.returncode == 0:
                break
        else:
            raise RuntimeError(f"Could not clone {{address}}: {{git.stderr.strip()}}") from None
        if clone.is_dir():  # what a clone left that was killed
            clone.rename(here / f".{{clone.name}}-broken-{{os.getpid()}}")
        part.rename(clone)
    sys.path.insert(0, str(root))
    sys.modules.pop("common", None)  # another package of this name
    from common.course.bootstrap import start

start()
'''


def start() -> None:
    """Installs what is missing if this is a fresh clone, then prints one line on what runs.

    Raises:
        CourseError: if something cannot be installed, or a parameter of the lesson is wrong.
    """
    # Without ipywidgets, progress bars are drawn as text: that will do.
    warnings.filterwarnings("ignore", "IProgress not found")
    root = Path(__file__).resolve().parents[2]
    missing = missing_requirements(root)
    # The name that the notebooks' first cell gives its clone.
    if root.name == f"course-v{__version__}":
        if missing or not _installed("deep-learning-course"):
            install(root, missing)
    elif missing:
        # One's own checkout and environment: said, not done.
        print(f"Missing: {', '.join(missing)}. Install: {sys.executable} -m pip install -e {root}")
    if "keras" not in sys.modules:  # later the names may stand for other things
        from common.course.lessons import check_variables

        check_variables(vars(sys.modules["__main__"]))
    if "COURSE_JOURNAL" in os.environ:  # the course's own kernel
        from common.files import keep_warnings

        keep_warnings()
    print(describe())


def missing_requirements(root: Path) -> list[str]:
    """Lines of `requirements.txt` of whose package no version at all is installed.

    An installed one is left as it is, whatever its version: on Colab other software needs it.
    """
    file = root / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
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


def install(root: Path, missing: list[str]) -> None:
    """Installs `missing` and the course itself; every package that is there keeps its version.

    Raises:
        CourseError: if pip cannot, with the end of what it said.
    """
    print(f"Installing the course and {len(missing)} packages that are missing ...")
    # A local build (2.13.0+cu128) is on no index: naming it would fail.
    installed = {
        package.name: package.version
        for package in importlib.metadata.distributions()
        if package.name and "+" not in package.version
    }
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "installed.txt"
            lines = [f"{name}=={version}\n" for name, version in installed.items()]
            constraints.write_text("".join(lines), encoding="utf-8")
            _pip("--constraint", str(constraints), *missing)
    # The build needs no network where setuptools is there, as on Colab.
    build = ["--no-build-isolation"] if "setuptools" in installed else []
    _pip("--no-deps", *build, "--editable", str(root))
    importlib.invalidate_caches()


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise CourseError(
            f"pip install {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}"
        )


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
