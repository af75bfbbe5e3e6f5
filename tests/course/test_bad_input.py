"""Bad input as a user meets it: through the command line, one message that names the culprit."""

import json
from contextlib import contextmanager

import cv2
import keras
import numpy as np
import pytest
from small_course import write_notebook
from typer.testing import CliRunner

from common.course.cli import app
from common.data import read_image_folder
from common.errors import CourseError
from common.models import ResNetConfig, resnet
from common.training.runs import Run

CLASSES = ("cat", "dog")


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def encode(image, suffix):
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.fixture
def tree(tmp_path):
    """`train` and `test` with three images of each of two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in CLASSES:
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                image = rng.integers(0, 256, (40, 40, 3), np.uint8)
                (folder / f"{i}.jpg").write_bytes(encode(image, ".jpg"))
    return tmp_path / "pets"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The name of a finished run whose network calls every image a cat."""
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    config = ResNetConfig(blocks=(1,), widths=(4,))
    network = resnet(config, len(CLASSES))
    head = network.get_layer("head")
    head.set_weights([np.zeros(head.kernel.shape), np.array([1.0, 0.0])])
    run = Run("cats", {"seed": 0, "network": config.to_dict()})
    run.save_model(network)
    run.save_record(classes=CLASSES, metrics={})
    return run


def check_refused(result, *words):
    """Exit code 2, the words in the message, no result and nobody's stack trace."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    message = result.stderr[result.stderr.index("Error: ") :]
    for word in words:
        assert word in message
    assert "Traceback" not in result.output and result.stdout == ""


# --- evaluate: the images ---


def cut(tree):
    path = tree / "test/cat/1.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def one_class(tree):
    for split in ("train", "test"):
        (tree / split / "dog").rename(tree / f"no-{split}")


BAD_TREES = {
    "truncated JPEG": (cut, ("test/cat/1.jpg: truncated or damaged JPEG",)),
    "zero bytes": (
        lambda tree: (tree / "test/dog/zero.jpg").write_bytes(b""),
        ("test/dog/zero.jpg: empty file",),
    ),
    "text": (
        lambda tree: (tree / "test/cat/notes.png").write_text("dear diary"),
        ("test/cat/notes.png: not a JPEG, PNG, BMP, WebP or GIF file",),
    ),
    "empty class": (
        lambda tree: [(tree / split / "bird").mkdir() for split in ("train", "test")],
        ("No image in ", "test/bird"),
    ),
    "one class": (one_class, ("test has one class only (cat)",)),
    "train and test differ": (
        lambda tree: (tree / "train/dog").rename(tree / "train/wolf"),
        ("Classes differ", "train", "test lacks wolf and has dog besides"),
    ),
    "not the network's": (
        lambda tree: [(tree / s / "dog").rename(tree / s / "wolf") for s in ("train", "test")],
        ("Missing: dog; unknown: wolf",),
    ),
    "no test folder": (
        lambda tree: (tree / "test").rename(tree / "tests"),
        ("test is not a folder",),
    ),
}


@pytest.mark.parametrize("what", BAD_TREES)
def test_evaluate_names_what_cannot_be_used(what, tree, run):
    spoil, words = BAD_TREES[what]
    spoil(tree)
    check_refused(call("evaluate", "phase1", "--data", tree, "--run", run.name), *words)


def check_evaluated(tree, run, n):
    result = call("evaluate", "phase1", "--data", tree, "--run", run.name)
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout.splitlines()[-1])
    assert scores == pytest.approx({"n": n, "accuracy": 3 / n, "accuracy_tta": 3 / n})


def test_evaluate_takes_greyscale_and_transparent_images(tree, run):
    grey = np.full((50, 40), 100, np.uint8)
    (tree / "test/dog/grey.png").write_bytes(encode(grey, ".png"))
    (tree / "test/dog/grey.jpg").write_bytes(encode(grey, ".jpg"))
    clear = np.zeros((32, 32, 4), np.uint8)
    (tree / "test/dog/clear.png").write_bytes(encode(clear, ".png"))
    images = read_image_folder(tree, "test")
    shown = dict(zip(images.sources, images.images, strict=True))
    assert (shown["dog/grey.png"] == 100).all() and (shown["dog/clear.png"] == 255).all()
    check_evaluated(tree, run, 9)


def test_evaluate_reads_the_images_again_if_the_cache_is_corrupt(tree, run, caplog):
    check_evaluated(tree, run, 6)
    cache = tree / ".course-cache/test-32.npy"
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])
    check_evaluated(tree, run, 6)
    assert f"The cache {cache} is damaged" in caplog.text
    assert cache.read_bytes() == whole


# --- evaluate: the run ---


BAD_RUNS = {
    "no such run": (lambda run: run.folder.rename(run.folder.with_name("y")), "no run 'cats'"),
    "unfinished": (lambda run: (run.folder / "record.json").unlink(), "has not finished"),
    "no model": (lambda run: (run.folder / "model.keras").unlink(), "cats/model.keras"),
    "cut model": (lambda run: (run.folder / "model.keras").write_bytes(b"PK"), "cats/model.keras"),
    "foreign model": (
        lambda run: run.save_model(resnet(ResNetConfig(blocks=(2,), widths=(4,)), len(CLASSES))),
        "do not fit",
    ),
    "cut record": (lambda run: (run.folder / "record.json").write_text("{"), "cats/record.json"),
}


@pytest.mark.parametrize("what", BAD_RUNS)
def test_evaluate_names_the_run_that_cannot_be_used(what, tree, run):
    spoil, words = BAD_RUNS[what]
    spoil(run)
    check_refused(call("evaluate", "phase1", "--data", tree, "--run", run.name), words)


# --- run: what stops a lesson is told in the words of the error ---


LOAD = "from common.data import load_images\n"


def test_run_names_the_file_or_folder_that_stops_a_lesson(course, tree, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(course / "nowhere"))
    cut(tree)
    for lesson, dataset in (("01_own", "dataset"), ("02_cifar", "'cifar10'")):
        path = course / "phase3_bad" / f"{lesson}.ipynb"
        write_notebook(path, f"{LOAD}load_images({dataset}, 'test')")
    result = call("run", "phase3", "--dataset", f"folder:{tree}")
    assert result.exit_code == 1 and "Traceback" not in result.output
    _, own, cifar = result.stderr.split("FAILED: ")
    assert own.startswith("phase3_bad/01_own, cell 3 (load_images(dataset, 'test')): DataError: ")
    assert "test/cat/1.jpg: truncated or damaged JPEG" in own
    assert f"COURSE_DATA='{course}/nowhere' is not a folder" in cifar


def test_run_refuses_an_unknown_profile_before_anything_runs(course):
    result = call("run", "--profile", "huge")
    assert result.exit_code == 2
    assert "'huge'" in result.stderr and "laptop" in result.stderr
    assert not (course / "outputs").exists()


# --- a full disk ---


@contextmanager
def almost_full_disk(free_bytes=20_000):
    """No file can grow beyond so many bytes: writes fail midway, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_record(run, network):
    run.save_record(notes="x" * 100_000)


def write_model(run, network):
    run.save_model(network)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_record, "record.json"),
        (write_model, "model.keras"),
    ],
)
def test_a_write_that_fails_midway_leaves_what_was_there(write, name, run):
    network = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    with almost_full_disk(), pytest.raises(CourseError, match=f"Could not write .*cats/{name}"):
        write(run, network)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_report_on_a_full_disk_exits_with_1(course, monkeypatch):
    def no_space(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    result = call("report")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "index.html: No space left on device" in result.stderr
    assert not list((course / "outputs").iterdir())
