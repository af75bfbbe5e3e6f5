"""The notebooks' first cell: in the repository, and alone in a fresh environment."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

from small_course import write_notebook

from common import __version__
from common.course import bootstrap

ROOT = Path(__file__).resolve().parents[2]


def test_only_packages_of_which_no_version_is_installed_are_missing(tmp_path):
    lines = "# heavy\nnumpy>=99\n\nno-such-package-here>=1,<2\nopencv-python>=4\n"
    (tmp_path / "requirements.txt").write_text(lines)
    assert bootstrap.missing_requirements(tmp_path) == ["no-such-package-here>=1,<2"]


def test_what_stands_beside_the_lessons_is_installed_with_the_course():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["data-files"]
    installed = {
        (folder.removeprefix("share/deep-learning-course/"), path.name)
        for folder, globs in patterns.items()
        for glob in globs
        for path in ROOT.glob(glob)
    }
    there = {
        (str(path.parent.relative_to(ROOT)), path.name)
        for name in ("weights", "results")
        for path in ROOT.glob(f"phase*_*/{name}/**/*")
        if path.is_file()
    }
    assert installed == there and len(there) > 10


def make_wheel(folder, name):
    """A wheel of one empty module, so that pip has something to install without a network."""
    folder.mkdir()
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def fresh_environment(folder):
    """A new environment that sees this one's packages, but not the course."""
    venv.create(folder, with_pip=False)
    seen = folder / "seen"
    seen.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("deep_learning_course", "__editable__", "common")):
            (seen / entry.name).symlink_to(entry)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.check_output([python, "-c", code], text=True).strip())
    (own / "seen.pth").write_text(f"{seen}\n")
    return python, own


def run_cell(folder, *more, python=sys.executable, archive=None, **variables):
    """Runs the cell by papermill in a notebook in `folder`; what its cells print.

    `archive` is taken in place of the address in the cell.
    """
    cell = bootstrap.CELL
    if archive is not None:
        assert cell.count(bootstrap.ARCHIVE) == 1
        cell = cell.replace(bootstrap.ARCHIVE, archive.as_uri())
    write_notebook(folder / "03_training.ipynb", cell, *more)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "JUPYTER_PATH")}
    command = "-m papermill 03_training.ipynb out.ipynb -p dataset synthetic -k python3".split()
    done = subprocess.run(
        [python, *command], cwd=folder, env=environment | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = json.loads((folder / "out.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", [])) for output in outputs)


def test_finds_the_repository_around_the_notebook(tmp_path):
    (tmp_path / "common" / "course").mkdir(parents=True)
    (tmp_path / "common" / "__init__.py").touch()
    text = "def start():\n    print('started in', __file__)\n"
    (tmp_path / "common" / "course" / "bootstrap.py").write_text(text)
    python, _ = fresh_environment(tmp_path / "environment")
    (tmp_path / "phase1_cifar").mkdir()
    printed = run_cell(tmp_path / "phase1_cifar", python=python)
    assert "started in" in printed and "environment" not in printed


def test_single_notebook_beside_half_a_copy_in_a_fresh_environment(tmp_path):
    """Installed without git, with a package that was missing, and the weights."""
    home = tmp_path / "course-main"  # as the archive is packed
    copied = subprocess.check_output(
        ["git", "ls-files", "common", "*weights*"], cwd=ROOT, text=True
    )
    for name in (*copied.split(), "pyproject.toml", "LICENSE", "README.md"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, home / name)
    absent = bootstrap.missing_requirements(ROOT)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    lines = [line for line in lines if line not in absent] + ["course_test_addition\n"]
    (home / "requirements.txt").write_text("\n".join(lines))
    archive = shutil.make_archive(str(tmp_path / "main"), "zip", tmp_path, home.name)
    make_wheel(tmp_path / "wheels", "course_test_addition")

    python, own = fresh_environment(tmp_path / "environment")
    before = {entry.name for entry in own.iterdir()}
    half = tmp_path / "half" / "common"  # what a copy left that was interrupted
    half.mkdir(parents=True)
    shutil.copy(ROOT / "common" / "__init__.py", half)
    (half.parent / "phase1_cifar").mkdir()
    without_git = tmp_path / "programs"
    without_git.mkdir()
    (without_git / "sh").symlink_to(shutil.which("sh"))  # by which IPython calls pip
    printed = run_cell(
        half.parent / "phase1_cifar",
        "import course_test_addition\nimport common\nprint('at', common.__file__)",
        "from common.training.released import load_model, released_captioner\n"
        "print(load_model()[0].count_params() > 0, released_captioner().name)",
        python=python,
        archive=Path(archive),
        PATH=str(without_git),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path / "wheels"),
        PIP_NO_BUILD_ISOLATION="0",
    )
    assert f"Course {__version__}, Keras " in printed
    assert f"at {own}/common/__init__.py" in printed and "True rewarded" in printed
    # What pip added: the missing package and the course, nothing in place of what was there.
    added = {entry.name.lower() for entry in own.iterdir()} - before
    rest = {name for name in added if "deep_learning_course" not in name}
    assert rest - {"__pycache__"} == {
        "common",
        "course_test_addition.py",
        "course_test_addition-1.0.dist-info",
    }
