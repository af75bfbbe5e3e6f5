"""The notebooks' first cell: in the repository, cloned, and in a fresh environment."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from small_course import write_notebook

from common import __version__
from common.course import bootstrap

ROOT = Path(__file__).resolve().parents[2]
TAG = f"v{__version__}"


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def make_repository(folder, tag=True):
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=All")
    if tag:
        git(folder, "tag", TAG)


@pytest.fixture
def stand_in(tmp_path):
    """A repository whose `start` only says that it was called."""
    root = tmp_path / "home"
    (root / "common" / "course").mkdir(parents=True)
    (root / "common" / "__init__.py").touch()
    text = "def start():\n    print('started in', __file__)\n"
    (root / "common" / "course" / "bootstrap.py").write_text(text)
    return root


def run_cell(folder, repository="file:///nowhere"):
    """Runs the cell in a process that has the standard library only (-S)."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"COURSE_REPOSITORY": str(repository)}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-S", "-c", bootstrap.CELL]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_finds_the_repository_above(stand_in):
    done = run_cell(stand_in / "phase1_cifar" / "deeper")
    assert done.stdout == f"started in {stand_in}/common/course/bootstrap.py\n", done.stderr


def test_clones_the_tag_and_uses_the_clone_again(stand_in, tmp_path):
    make_repository(stand_in)
    (stand_in / "common" / "course" / "bootstrap.py").write_text("after the tag")
    git(stand_in, "commit", "--quiet", "--all", "--message=Later")
    empty = tmp_path / "empty"
    first = run_cell(empty, stand_in.as_uri())
    assert first.stdout.startswith(f"started in {empty}/course-{TAG}/"), first.stderr
    shutil.rmtree(stand_in)
    assert run_cell(empty).stdout == first.stdout


def test_takes_the_newest_state_where_the_tag_is_not_published(stand_in, tmp_path):
    make_repository(stand_in, tag=False)
    done = run_cell(tmp_path / "empty", stand_in.as_uri())
    assert done.stdout.startswith("started in"), done.stderr


def test_another_package_of_the_name_is_no_obstacle(stand_in, tmp_path):
    make_repository(stand_in)
    (tmp_path / "empty" / "common").mkdir(parents=True)
    (tmp_path / "empty" / "common" / "__init__.py").touch()
    done = run_cell(tmp_path / "empty", stand_in.as_uri())
    assert "course-v" in done.stdout, done.stderr


def test_a_repository_that_cannot_be_reached_is_named(tmp_path):
    done = run_cell(tmp_path / "empty", "file:///no/such/place")
    assert done.returncode == 1
    assert "RuntimeError: Could not clone file:///no/such/place: " in done.stderr
    assert "fatal: " in done.stderr.split("RuntimeError: Could not clone")[-1]  # git's own words


def test_without_git_it_says_what_to_do_and_that_works(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    done = run_cell(tmp_path / "empty", "https://example.org/course")
    assert done.returncode == 1
    file = f"https://example.org/course/archive/refs/tags/{TAG}.zip"
    assert f"Install git and run this again, or unpack {file} in {tmp_path}" in done.stderr
    shutil.copytree(stand_in, tmp_path / "empty" / f"course-{__version__}")
    assert "started in" in run_cell(tmp_path / "empty").stdout


@pytest.mark.parametrize("left", [".git/config", "common/course/cli.py", "README.md"])
def test_half_a_copy_is_no_obstacle(left, stand_in, tmp_path):
    make_repository(stand_in)
    half = tmp_path / "empty" / f"course-{TAG}" / left
    half.parent.mkdir(parents=True)
    half.touch()
    assert "started in" in run_cell(tmp_path / "empty", stand_in.as_uri()).stdout


def test_only_packages_of_which_no_version_is_installed_are_missing(tmp_path):
    lines = "# heavy\nnumpy>=99\n\nno-such-package-here>=1,<2\nopencv-python>=4\n"
    (tmp_path / "requirements.txt").write_text(lines)
    assert bootstrap.missing_requirements(tmp_path) == ["no-such-package-here>=1,<2"]


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


def test_single_notebook_in_an_empty_folder_of_a_fresh_environment(tmp_path):
    # A state of the course that needs a package more than this environment has.
    home = tmp_path / "home"
    shutil.copytree(ROOT / "common", home / "common", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, home / name)
    (home / "README.md").touch()
    absent = bootstrap.missing_requirements(ROOT)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    lines = [line for line in lines if line not in absent] + ["course_test_addition\n"]
    (home / "requirements.txt").write_text("\n".join(lines))
    make_repository(home)
    make_wheel(tmp_path / "wheels", "course_test_addition")

    empty = tmp_path / "empty"
    write_notebook(
        empty / "03_training.ipynb",
        bootstrap.CELL,
        "import course_test_addition\nimport common.layers\nprint('at', common.__file__)",
    )
    python, own = fresh_environment(tmp_path / "environment")
    before = {entry.name for entry in own.iterdir()}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "JUPYTER_PATH")}
    environment |= {
        "COURSE_REPOSITORY": home.as_uri(),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
    }
    command = "-m papermill 03_training.ipynb out.ipynb -p dataset cifar10 -k python3".split()
    done = subprocess.run(
        [python, *command], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = json.loads((empty / "out.ipynb").read_text())
    text = "".join(
        "".join(output.get("text", []))
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    )
    assert f"Course {__version__}, Keras " in text
    assert f"at {empty}/course-{TAG}/common/__init__.py" in text
    # What pip added: the missing package and the course, nothing in place of what was there.
    added = {entry.name.lower() for entry in own.iterdir()} - before
    rest = {name for name in added if "deep_learning_course" not in name}
    assert rest - {"__pycache__"} == {
        "course_test_addition.py",
        "course_test_addition-1.0.dist-info",
    }
    assert any("deep_learning_course" in name for name in added)
    # And the course can be imported from anywhere now.
    code = "import common; print(common.__file__)"
    found = subprocess.check_output([python, "-c", code], cwd=tmp_path, text=True)
    assert found.strip() == f"{empty}/course-{TAG}/common/__init__.py"


def test_pip_failure_is_told_in_pips_words(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(bootstrap.CourseError, match="no-such-package-here"):
        bootstrap.install(tmp_path, ["no-such-package-here"])
