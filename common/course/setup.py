"""Makes the environment `.venv` and installs the course in it: `python -m common.course setup`.

Only the standard library is imported: nothing is installed yet.
"""

import argparse
import difflib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ((3, 11), (3, 14))  # from, and below
SIZE = "A download of 0.9 GB, 2.9 GB on disk, a few minutes"
# What `python -m common.course test` needs besides the course itself.
TEST_EXTRAS = "dev,jax"


class SetupError(Exception):
    """Something to tell the user in one message."""


class ExtraError(SetupError):
    """There is no extra of that name."""


def venv_python(root: Path = ROOT) -> Path:
    """The interpreter of the environment, whether it is there or not."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(extras: str = "", this_python: bool = False, root: Path = ROOT) -> Path:
    """Makes the environment, repairs it, or leaves it as it is if it is whole.

    Args:
        extras: Of pyproject.toml, as "dev,jax".
        this_python: Whether an environment of another Python version is made again.

    Returns:
        The environment's interpreter.

    Raises:
        SetupError: if this Python will not do, or a package cannot be installed.
    """
    python = venv_python(root)
    folder = root / ".venv"
    if os.path.lexists(folder):
        if why := _problem(python, this_python):
            if not (folder / "pyvenv.cfg").is_file() and _has_files(folder):
                raise SetupError(f"{folder} is no environment of Python. Move it away.")
            print(f"The environment {folder} {why}: it is made again.", flush=True)
            _remove(folder)
    if not os.path.lexists(folder):
        _check_version()
        # Not by the interpreter of an environment that has just been removed.
        base = getattr(sys, "_base_executable", None) or sys.executable
        _run([base, "-m", "venv", folder], "make the environment")
    stamp = folder / ".installed"
    wanted = _names(extras)
    state, installed = _state(root), set()
    if stamp.is_file():
        kept, *names = stamp.read_text(encoding="utf-8").split()
        installed = set(names)
        if kept == state and wanted <= installed:
            return python
    _install(python, root, sorted(wanted | installed))
    stamp.write_text(" ".join([state, *sorted(wanted | installed)]), encoding="utf-8")
    return python


def _names(extras: str) -> set[str]:
    return {name.strip() for name in extras.split(",") if name.strip()}


def check_extras(extras: str, root: Path = ROOT) -> None:
    """Makes sure that pyproject.toml has them all.

    Raises:
        ExtraError: naming those that there are.
    """
    if sys.version_info < VERSIONS[0]:  # cannot read the list; told of, if it is to be used
        return
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    for name in sorted(_names(extras) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ExtraError(f"There is no extra {name!r}.{meant} There are: {', '.join(known)}.")


def _check_version() -> None:
    first, end = VERSIONS
    if not first <= sys.version_info[:2] < end:
        raise SetupError(
            f"The course needs Python 3.{first[1]} to 3.{end[1] - 1}; {sys.executable} is "
            f"{sys.version.split()[0]}. Install one of them and run this with it."
        )


def _problem(python: Path, this_python: bool) -> str | None:
    """Why an environment cannot stay."""
    code = "import sys, pip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120)
    except OSError:
        return "is broken"
    if done.returncode:
        return "is broken or half made"
    version = tuple(map(int, done.stdout.split()))
    first, end = VERSIONS
    other = this_python and version != sys.version_info[:2]
    return (
        f"is of Python {'.'.join(map(str, version))}"
        if other or not first <= version < end
        else None
    )


def _has_files(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _state(root: Path) -> str:
    """What the installation was made from: the lists of packages, and where it lies."""
    lists = [(root / name).read_bytes() for name in ("pyproject.toml", "requirements.txt")]
    return hashlib.sha256(b"\0".join([os.fsencode(root), *lists])).hexdigest()


def _install(python: Path, root: Path, extras: list[str]) -> None:
    what = f"the course{' with ' + ', '.join(extras) if extras else ''}"
    print(f"Installing {what} into {root / '.venv'}. {SIZE}.", flush=True)
    course = f"{root}[{','.join(extras)}]" if extras else str(root)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # uv installs three times faster than pip; where it cannot be had, pip does the same.
    subprocess.run([*pip, "uv"], capture_output=True)
    uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--editable", course]
    if subprocess.run(uv, stderr=subprocess.DEVNULL).returncode:
        _run([*pip, "--no-compile", "--editable", course], f"install {what}")


def _run(command: list, what: str) -> None:
    if code := subprocess.run(command).returncode:
        raise SetupError(f"Could not {what} (exit code {code}, see above). Run the same again.")


def main(arguments: list[str]) -> int:
    """The command `setup`; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m common.course setup",
        description="Make the environment .venv and install the course in it. An environment that "
        "is whole stays; a broken or half-made one is made again.",
    )
    parser.add_argument(
        "--extras", default="", metavar="A,B", help="jax, torch, gpu, jax-gpu, jupyter, dev"
    )
    parser.add_argument(
        "--this-python", action="store_true", help="make it again if it is of another Python"
    )
    options = parser.parse_args(arguments)
    try:
        check_extras(options.extras)
        python = set_up(options.extras, options.this_python)
    except (SetupError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ExtraError) else 1
    except KeyboardInterrupt:
        print("Interrupted: run the same again.", file=sys.stderr)
        return 130
    print(f"The environment is ready: {python}")
    return 0
