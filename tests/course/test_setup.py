"""Tests of common.course.setup: an environment is made, left, or made again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.course import setup, testing


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A course to install; `installed` beside it tells what was."""
    for name in ("pyproject.toml", "requirements.txt"):
        (tmp_path / name).write_text("numpy")
    installed = tmp_path / "installed"

    def run(command, what):
        assert command[1:3] == ["-m", "venv"]
        make(Path(command[3]))

    def install(python, root, extras):
        with installed.open("a") as file:
            file.write(f"{','.join(extras)};")

    monkeypatch.setattr(setup, "_run", run)
    monkeypatch.setattr(setup, "_install", install)
    return tmp_path


def make(folder):
    """As `venv` does, in no time: with the packages of this interpreter, so with pip."""
    python = setup.venv_python(folder.parent)
    python.parent.mkdir(parents=True)
    if os.name == "nt":
        pytest.skip("links to an interpreter")
    python.symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text(
        f"home = {Path(sys.executable).parent}\ninclude-system-site-packages = false\n"
    )
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.check_output([python, "-c", code], text=True).strip())
    own.mkdir(parents=True)
    (own / "pip.py").touch()


def installed(root):
    return (root / "installed").read_text().split(";")[:-1]


def test_installed_once_and_again_when_what_is_to_be_installed_changes(root):
    assert setup.set_up(root=root) == setup.venv_python(root)
    setup.set_up(root=root)
    assert installed(root) == [""]
    setup.set_up("dev,jax", root=root)
    setup.set_up("jax", root=root)
    setup.set_up(root=root)
    assert installed(root) == ["", "dev,jax"]
    (root / "requirements.txt").write_text("numpy>2")
    setup.set_up(root=root)
    assert installed(root) == ["", "dev,jax", "dev,jax"]


def no_pip(folder):
    next(folder.rglob("pip.py")).unlink()


def no_python(folder):
    setup.venv_python(folder.parent).unlink()


def moved_python(folder):
    no_python(folder)
    setup.venv_python(folder.parent).symlink_to("/no/such/python")


def not_runnable(folder):
    no_python(folder)
    setup.venv_python(folder.parent).write_text("cut")


@pytest.mark.parametrize("harm", [no_pip, no_python, moved_python, not_runnable])
def test_a_broken_environment_is_made_again(harm, root, capsys):
    setup.set_up(root=root)
    harm(root / ".venv")
    setup.set_up(root=root)
    assert "is broken" in capsys.readouterr().out
    assert installed(root) == ["", ""]
    assert setup._problem(setup.venv_python(root), this_python=True) is None


def test_one_of_a_python_that_is_too_old_is_made_again(root, monkeypatch, capsys):
    setup.set_up(root=root)
    monkeypatch.setattr(setup, "VERSIONS", ((3, 99), (3, 100)))
    with pytest.raises(setup.SetupError, match="needs Python 3.99 to 3.99"):
        setup.set_up(root=root)
    assert f"is of Python 3.{sys.version_info[1]}: it is made again" in capsys.readouterr().out


def test_one_of_another_python_is_made_again_only_if_this_one_was_named(root, monkeypatch):
    setup.set_up(root=root)
    other = (3, 12, 9) if sys.version_info[1] == 11 else (3, 11, 9)
    monkeypatch.setattr(setup.sys, "version_info", other)
    setup.set_up(root=root)
    assert installed(root) == [""]
    setup.set_up(root=root, this_python=True)
    assert installed(root) == ["", ""]


def test_a_folder_that_is_no_environment_is_never_removed(root):
    (root / ".venv").mkdir()
    (root / ".venv" / "thesis.txt").touch()
    with pytest.raises(setup.SetupError, match="Move it away"):
        setup.set_up(root=root)
    assert (root / ".venv" / "thesis.txt").exists()


def test_an_installation_that_was_interrupted_goes_on(root, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(setup, "_install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            setup.set_up(root=root)
    setup.set_up(root=root)
    assert installed(root) == [""]


def test_commands_without_packages(tmp_path):
    """A bare Python: `-S` hides what is installed."""
    root = Path(setup.__file__).resolve().parents[2]
    for arguments, code, told in (
        (["setup", "--help"], 0, "--extras"),
        (["test", "--help"], 0, "nbval: every cell"),
        (["test", "lnt"], 2, "there is no step 'lnt'"),
        (["setup", "--extras", "dev,jupiter"], 2, "There is no extra 'jupiter'. Did you mean"),
    ):
        command = [sys.executable, "-S", "-m", "common.course", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == code and told in done.stdout + done.stderr


def test_steps_of_the_tests():
    phases = {path.name for path in testing.ROOT.glob("phase*_*")}
    for phase in phases:
        [(module, _)] = testing._commands(f"nbval-{phase}")
        lessons = [
            Path(part).relative_to(testing.ROOT) for part in module if part.endswith(".ipynb")
        ]
        assert {path.parts[0] for path in lessons} == {phase}
        [(module, _)] = testing._commands(f"chain-{phase}")
        assert module[:3] == ["common.course", "run", phase]
    [(module, _)] = testing._commands("nbval")
    notebooks = [Path(part) for part in module if part.endswith(".ipynb")]
    assert phases | {"solutions"} <= {path.parent.name for path in notebooks}
    assert ["training" in path.name for path in notebooks[:3]] == [True] * 3
    assert testing._commands("chain") == testing._commands("chain-phase1_cifar")


def test_lessons_of_the_tests_download_nothing():
    for step in ("chain", "nbval", "chain-phase1_cifar", "nbval-phase3_captioning"):
        for _, variables in testing._commands(step):
            assert variables["COURSE_DATASET"] == "synthetic"
            assert variables["COURSE_PROFILE"] == "smoke"


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_make_run_downloads_nothing(monkeypatch):
    monkeypatch.setenv("COURSE_DATASET", "cifar10")
    command = ["make", "run", "PYTHON=true", "PY=sh -c env"]
    done = subprocess.run(command, cwd=testing.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"COURSE_DATASET=synthetic", "COURSE_PROFILE=smoke"} <= {*done.stdout.splitlines()}
