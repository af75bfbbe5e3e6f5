"""Commands quoted in README, documents, lessons and `--help` are taken: names, options, parameters.

What each would do is left out: it has been checked by then.
"""

import json
import re
import shlex
import tomllib
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

from common.course import cli

ROOT = Path(__file__).resolve().parents[2]
WORK = (
    "side_by_side.run_lessons",
    "sweep.run_sweep",
    "study.train_study",
    "compare.write_comparison",
    "evaluate.evaluate",
    "release.release",
    "predict_images.predict_images",
    "predict.predict",
    "caption.caption",
    "refresh.refresh",
    "setup.main",
    "testing.main",
)
# What commands name that is the reader's own: folders of images, photos, runs.
FOLDERS = (
    "DIR",
    "FOLDER",
    "my_images",
    "my_slides",
    "data/cifar10",
    "data/histopathology",
    "PHOTOS",
    "SLIDES",
    "photos",
    "holidays",
)
PHOTOS = ("photo.jpg", "holiday/a.jpg", "PHOTOS...")
RUNS = {
    "RUN": None,
    "my_run": "phase1_cifar",
    **dict.fromkeys(("seed0", "seed1", "seed2", "cifar10-laptop-fast-seed0"), "phase1_cifar"),
    **dict.fromkeys(("fold1", "fold2", "fold3"), "phase2_histopathology"),
}


def quoted() -> list[str]:
    """Each command once, as it is written."""
    texts = [path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    texts += [(ROOT / "CONTRIBUTING.md").read_text("utf-8")]
    texts += [path.read_text("utf-8") for path in ROOT.glob("phase*_*/*.md")]
    for path in sorted(ROOT.glob("phase*_*/*.ipynb")):
        texts += [cell.source for cell in nbformat.read(path, 4).cells]
    texts += [command.callback.__doc__ or "" for command in cli.app.registered_commands]
    texts.append(cli.app.info.help)
    found = re.findall(r"python -m common\.course +([a-z][^`\n]*)", "\n".join(texts))
    ends = r"\s{2,}.*|\s+#.*|\s+\|.*|[.,;:]?$"
    commands = {re.sub(ends, "", text).strip() for text in found}
    # Not those of which a sentence gives the beginning only.
    return sorted(c for c in commands if not c.endswith("..") and c != "predict phase2")


CIFAR10 = json.loads((ROOT / "phase1_cifar/weights/record.json").read_text("utf-8"))["classes"]


class Reached(Exception):
    """The command would begin its work."""


LAYOUTS = {
    "images": tuple(f"{s}/{name}/a.png" for s in ("train", "test") for name in CIFAR10),
    "slides": tuple(f"8863/{n}/8863_idx5_x{50 * n + 1}_y1_class{n}.png" for n in (0, 1)),
    "photos": ("a.jpg", "b.png"),
    "captions": ("a.jpg", "b.jpg", "c.jpg", "captions.txt"),
}
CAPTIONS = "image,caption\na.jpg,a dog\nb.jpg,ein Hund\nc.jpg,a cat\n"


def layout(command: str) -> str:
    if "phase2" in command:
        return "slides"
    if "phase3" in command:
        return "captions"
    return "photos" if command.startswith(("caption", "predict")) else "images"


@pytest.fixture
def place(tmp_path, monkeypatch, command):
    """A working folder with all that the command names."""
    photo = cv2.imencode(".png", np.zeros((50, 50, 3), np.uint8))[1].tobytes()
    files = [f"{name}/{file}" for name in FOLDERS for file in LAYOUTS[layout(command)]]
    for name in (*PHOTOS, *files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(CAPTIONS.encode() if name.endswith(".txt") else photo)
    for name, phase in RUNS.items():
        folder = tmp_path / "outputs" / "runs" / name
        folder.mkdir(parents=True)
        record = {"run_name": name, "metrics": {"test_accuracy": 0.5}, "dataset": "cifar10"}
        (folder / "record.json").write_text(
            json.dumps(record | ({"phase": phase} if phase else {}))
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr("common.course.quiet.load_backend", lambda: [])

    def reached(*arguments, **options):
        raise Reached

    for name in WORK:
        monkeypatch.setattr(f"common.course.{name}", reached)
    return tmp_path


def test_commands_are_found():
    found = quoted()
    assert len(found) > 30
    assert "run phase1 --dataset DIR --profile laptop" in found
    assert "sweep phase1 --seeds 0,1,2" in found


@pytest.mark.parametrize("command", quoted())
def test_is_taken(command, place):
    arguments = shlex.split(command.replace("holiday/*.jpg", "holiday/a.jpg"))
    result = CliRunner().invoke(cli.app, arguments)
    if arguments[0] == "report" and "--compare" not in arguments:
        assert result.exit_code == 0, result.output
    else:
        assert isinstance(result.exception, Reached), f"{result.output}{result.exception!r}"


# --- other programs ---


def texts() -> str:
    """README, documents and the phases' LOG.md."""
    paths = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
    return "\n".join(p.read_text("utf-8") for p in (*paths, *ROOT.glob("phase*_*/*.md")))


def commands(start: str) -> set[str]:
    """Whole commands that begin so, in a line or between back quotes."""
    return set(re.findall(rf"(?:^|`)({start}(?: [^`\n#]*)?)(?:`| *#.*$|$)", texts(), re.MULTILINE))


def test_make_knows_its_targets():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(" ".join(re.findall(r"^([a-z][a-z -]*):", makefile, re.M)).split())
    named = {word for command in commands("make") for word in command.split()[1:]}
    assert {"run", "test", "unit", "notebooks"} <= named <= targets


def test_extras_are_those_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(extras["optional-dependencies"])
    installed = re.findall(r'pip install -e "\.\[([\w,-]+)\]"', texts())
    installed += re.findall(r"--extras ([\w,-]+)", texts())
    named = {name for names in installed for name in names.split(",")}
    assert {"gpu", "jax-gpu", "torch", "jupyter"} <= named <= extras


def test_papermill_finds_lesson_and_parameters():
    found = commands("papermill")
    assert found
    for command in found:
        _, lesson, _, *options = shlex.split(command)
        names = re.findall(r"-p (\w+)", command)
        notebook = nbformat.read(ROOT / lesson, 4)
        (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        assert names and all(re.search(rf"^{name}\b.* = ", cell.source, re.M) for name in names)
        assert options[-2:] == ["-k", notebook.metadata.kernelspec.name]


def test_benchmarks_take_what_is_quoted():
    found = commands("python benchmarks")
    found |= {c for c in commands("python benchmarks/[a-z_]+.py") if c}
    assert len(found) >= 8
    for command in found:
        script, *arguments = shlex.split(command.replace("|", " ").replace("DIR", "."))[1:]
        source = (ROOT / script).read_text("utf-8")
        for word in arguments:
            if word != "." and not word.isdecimal() and not word.startswith("flickr"):
                assert f'"{word}"' in source, f"{command}: {script} has no {word}"


def test_the_python_of_the_documents_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", texts(), re.M | re.S)
    blocks = [block for block in blocks if "google.colab" not in block]
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
