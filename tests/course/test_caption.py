"""The command `caption`, with a stand-in for the trained captioner."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from common.course import caption
from common.course.cli import app
from common.course.names import _folded
from common.data.photos import read_photo
from common.files import hold, output_lock, write_json
from common.training import captioner
from common.training.features import to_input


class Namer:
    """Names the colour of a photo, and looks at its middle."""

    class extractor:
        size = 8

    record = {"decoder": {"name": "namer"}}
    vocabulary = SimpleNamespace(words=("a", "red", "green", "blue"))
    decoder = SimpleNamespace(get_weights=lambda: [np.ones(3)])
    asked: list = []

    def features(self, images):
        return np.stack([image.mean(axis=(0, 1)) for image in images])

    def scored_captions(self, features, beams, **options):
        self.asked.append((len(features), beams, options))
        colours = [int(colour.argmax()) for colour in features]
        captions = [["a", ("red", "green", "blue")[colour]] for colour in colours]
        return captions, np.array([-0.25 * (1 + colour) for colour in colours])

    def attention(self, features, captions):
        maps = np.zeros((2, 1, 1, 7, 7), "float32")
        maps[..., 3, 3] = 1
        return [maps for _ in captions]


@pytest.fixture
def namer(monkeypatch):
    Namer.asked = []
    runs = []

    def load(run):
        runs.append(run)
        return Namer()

    monkeypatch.setattr(captioner, "load_captioner", load)
    return runs


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("b.jpg", "a.png", "c.jpg")):  # blue, green, red
        pixels = np.zeros((50, 40, 3), np.uint8)
        pixels[..., i] = 250
        cv2.imwrite(str(folder / name), pixels)
    return folder


def call(*arguments):
    return CliRunner().invoke(app, ["caption", *map(str, arguments)])


def test_folder_and_files_in_order(namer, photos, tmp_path):
    output = tmp_path / "captions.json"
    result = call(photos / "c.jpg", photos, "--output", output)
    assert result.exit_code == 0, result.output
    expected = [("c.jpg", "a red", -0.25), ("a.png", "a green", -0.5), ("b.jpg", "a blue", -0.75)]
    assert json.loads(output.read_text()) == [
        {"image": str(photos / name), "caption": text, "score": score, "confidence": None}
        for name, text, score in expected
    ]
    assert result.stdout.splitlines() == [
        f"{photos / name}: {text} ({score:.2f})" for name, text, score in expected
    ]
    assert namer == [None] and Namer.asked == [(3, None, {})]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.json", "photos"]


def test_captions_are_sure_from_the_threshold_of_the_record_on(
    namer, photos, tmp_path, monkeypatch
):
    record = Namer.record | {"confidence": {"threshold": -0.5}}
    monkeypatch.setattr(Namer, "record", record)
    output = tmp_path / "captions.json"
    result = call(photos, "--output", output)
    told = ["a green (sure, -0.50)", "a blue (unsure, -0.75)", "a red (sure, -0.25)"]
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == told
    found = [item["confidence"] for item in json.loads(output.read_text())]
    assert found == ["sure", "unsure", "sure"]


@pytest.mark.parametrize("found", [None, [], {}, {"threshold": "high"}, {"threshold": -1, "n": 2}])
def test_a_record_that_tells_no_threshold(found):
    assert caption.sure_from({"confidence": found}) is None
    assert caption.sure_from({"confidence": {"threshold": -1, "n": 500}}) == -1


def test_photos_of_other_kinds_are_told_of(namer, photos, caplog):
    (photos / "d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (photos / "c.jpg").rename(photos / "c.TIFF")
    result = call(photos)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 3
    assert "passed over 1 HEIC file (convert it to JPEG)" in caplog.text
    result = call(photos / "d.heic")
    assert result.exit_code == 1 and "a HEIC photo: convert it to JPEG" in result.stderr


def test_what_is_wrong_is_told_before_a_backend_is_started(photos, monkeypatch):
    monkeypatch.setattr("common.course.quiet.load_backend", lambda: 1 / 0)
    for wrong in (["nowhere"], [photos, "--run", "nosuch"], [photos, "--beam", "0"]):
        result = call(*wrong)
        assert result.exit_code == 2 and "Error: " in result.stderr


def test_options_reach_the_captioner(namer, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    write_json(tmp_path / "runs" / "mine" / "record.json", {})
    result = call(photos, "--beam", "4", "--run", "mine", "--no-repeated-trigram")
    assert result.exit_code == 0, result.output
    assert namer == ["mine"]
    assert Namer.asked == [(3, 4, {"no_repeated_trigram": True})]


def test_bad_photos_are_told_of_and_the_rest_is_captioned(namer, photos, tmp_path):
    whole = (photos / "b.jpg").read_bytes()
    (photos / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("dear diary")
    output = tmp_path / "captions.json"
    result = call(photos, "--output", output)
    assert result.exit_code == 1
    names = [Path(item["image"]).name for item in json.loads(output.read_text())]
    assert names == ["a.png", "c.jpg"]
    assert f"Left out: {photos / 'b.jpg'}: truncated or damaged JPEG file." in result.stderr
    assert "text.jpg: not a JPEG, PNG" in result.stderr


def test_attention_figures(namer, photos, tmp_path):
    result = call(photos, "--attention", tmp_path / "figures")
    assert result.exit_code == 0, result.output
    drawn = sorted((tmp_path / "figures").iterdir())
    assert [path.name for path in drawn] == ["a.png", "b.png", "c.png"]
    for path in drawn:
        assert cv2.imread(str(path)).shape[1] > 200


def test_decoder_without_attention(namer, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Namer, "attention", lambda *_: None)
    result = call(photos, "--attention", tmp_path / "figures")
    assert result.exit_code == 2
    assert "The decoder 'namer' has no attention to draw" in result.stderr
    assert Namer.asked == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "There is no file or folder nowhere"),
        (["photos", "--beam", "0"], "--beam must be 1 or more, and 50 at most"),
        (["photos", "--beam", "51"], "Received: 51"),
        (["empty"], "has no image"),
        (["photos", "--output", "photos/b.jpg"], "--output would write over the image"),
        (
            ["photos", "--output", "captions.csv"],
            "a file that ends in .json. Received: captions.csv",
        ),
        (["photos", "--attention", "photos"], "--attention would write over the image"),
    ],
)
def test_wrong_arguments(namer, photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr and namer == []


@pytest.mark.parametrize("option", ["--output", "--attention"])
@pytest.mark.parametrize("where", ["photos/a.png/x", "{long}", "{long}/x"])
def test_outputs_that_cannot_be_written_are_told_of_before_the_work(
    namer, photos, tmp_path, monkeypatch, option, where
):
    monkeypatch.chdir(tmp_path)
    result = call(photos, option, where.format(long="x" * 300))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "Could not write" in result.stderr and namer == []


def test_output_may_not_be_a_folder(namer, photos):
    result = call(photos, "--output", photos)
    assert result.exit_code == 1 and "Could not write" in result.stderr and namer == []


def test_one_pixel_and_a_hundred_million(namer, tmp_path):
    for name, shape in (("one.png", (1, 1)), ("large.jpg", (9000, 12000))):
        pixels = np.zeros((*shape, 3), np.uint8)
        pixels[..., 1] = 250
        cv2.imwrite(str(tmp_path / name), pixels)
    result = call(tmp_path / "one.png", tmp_path / "large.jpg")
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == ["a green (-0.50)"] * 2


# --- many photos, one by one name ---


def test_photos_of_one_name_in_two_folders(namer, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("x", "y"):
        Path(folder).mkdir()
        os.link(photos / "c.jpg", f"{folder}/IMG_1.jpg")
    assert call("x", "y", "--output", "o.json", "--attention", "f").exit_code == 0
    images = [item["image"] for item in json.loads(Path("o.json").read_text(encoding="utf-8"))]
    assert images == [os.path.join(folder, "IMG_1.jpg") for folder in ("x", "y")]
    assert sorted(os.listdir("f")) == ["x-IMG_1.png", "y-IMG_1.png"]


NAMES = {
    "alone": (["a.jpg", "b/c.png"], ["a.png", "c.png"]),
    "suffixes": (["a.jpg", "a.jpeg", "b.gif"], ["a-jpg.png", "a-jpeg.png", "b.png"]),
    "folders": (["x/a.jpg", "x/a.png", "y/a.jpg"], ["x-a-jpg.png", "x-a-png.png", "y-a.png"]),
    "deep": (["p/q/a.jpg", "p/r/a.jpg", "p/a.jpg"], ["q-a.png", "r-a.png", "a.png"]),
    "capitals": (["x/A.jpg", "y/a.jpg"], ["x-A.png", "y-a.png"]),
    "odd": (['a:"b.jpg', "c\n.jpg", "caf\udce9.jpg"], ["a__b.png", "c_.png", "caf_.png"]),
}


@pytest.mark.parametrize("what", NAMES)
def test_names_of_figures(what):
    files, names = NAMES[what]
    assert caption.figure_names([Path(file) for file in files]) == names


@pytest.mark.parametrize(
    "files",
    [
        ["x-a.jpg", "x/a.jpg", "x/a.png", "x-a-png.gif"],
        ["a.jpg", "A.JPG", "a.jpeg", "x/a.jpg", "X/a.jpg"],
        ["e\u0301.jpg", "\u00e9.jpg", "E\u0301.jpg"],
        ["x" * 250 + ".jpg", "x" * 249 + "y.jpg", "\u732b" * 80 + ".jpg"],
        ["/".join(["f" * 100] * 5) + "/a.jpg", "/".join(["g" * 100] * 5) + "/a.jpg"],
        ["a?.jpg", "a*.jpg", "a_.jpg"],
    ],
)
def test_no_two_figures_share_a_name(files):
    names = caption.figure_names([Path(file) for file in files])
    assert len({_folded(name) for name in names}) == len(files)
    assert max(len(name.encode()) for name in names) < 200


def test_folders_within_folders(namer, photos):
    (photos / "more").mkdir()
    (photos / "c.jpg").rename(photos / "more" / "c.jpg")
    assert len(call(photos).stdout.splitlines()) == 2
    result = call(photos, "--recursive")
    assert len(result.stdout.splitlines()) == 3 and "c.jpg: a red" in result.stdout


# --- names and streams ---


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_names_that_are_not_utf_8(namer, photos, tmp_path):
    os.rename(photos / "a.png", os.fsencode(photos) + b"/caf\xe9.png")
    os.rename(photos / "b.jpg", os.fsencode(photos) + b"/b\n\x1b[31m.jpg")
    output = tmp_path / "o.json"
    result = call(photos, "--output", output, "--attention", tmp_path / "f")
    assert result.exit_code == 0, result.output
    assert "caf\\udce9.png: a green" in result.stdout and "\x1b" not in result.stdout
    assert "b\\n\\x1b[31m.jpg: a blue" in result.stdout
    assert any(item["image"].endswith("caf\udce9.png") for item in json.loads(output.read_text()))


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_terminal_that_lacks_characters(namer, photos, tmp_path, monkeypatch, encoding):
    (photos / "a.png").rename(photos / "\u732b.png")
    output = tmp_path / "o.json"
    arguments = ["caption", str(photos), "--output", str(output)]
    result = CliRunner(charset=encoding).invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "\\u732b.png: a green" in result.stdout
    assert len(json.loads(output.read_text())) == 3


def test_a_closed_pipe_does_not_lose_the_output(namer, photos, tmp_path, monkeypatch):
    def closed(*_, **options):
        if not options.get("err"):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("typer.echo", closed)
    result = call(photos)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert call(photos, "--output", tmp_path / "o.json").exit_code == 0
    assert len(json.loads((tmp_path / "o.json").read_text())) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_output_into_a_pipe_and_through_a_link(namer, photos, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert call(photos, "--output", pipe).exit_code == 0
        assert len(json.loads(reader.stdout.read())) == 3
    assert pipe.is_fifo() and sorted(os.listdir(tmp_path)) == ["photos", "pipe"]
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert call(photos, "--output", tmp_path / "link.json").exit_code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert len(json.loads((tmp_path / "real.json").read_text())) == 3


# --- memory, kills and two at once ---


def test_a_photo_too_large_for_the_memory_does_not_stop_the_others(namer, photos, monkeypatch):
    def read(path):
        if path.name == "c.jpg":
            raise MemoryError
        return read_photo(path)

    monkeypatch.setattr("common.data.photos.read_photo", read)
    result = call(photos)
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 2
    assert "c.jpg: there is not enough memory" in result.stderr


@pytest.fixture
def stopped(namer, photos, tmp_path, monkeypatch):
    """The arguments of a call that was interrupted in its third block of one photo each."""
    arguments = [photos, "--output", tmp_path / "o.json", "--attention", tmp_path / "f"]
    monkeypatch.setattr(caption, "_BLOCK", 1)
    write = Namer.scored_captions

    def interrupted(self, features, *given, **options):
        if len(self.asked) == 2:
            raise KeyboardInterrupt
        return write(self, features, *given, **options)

    with monkeypatch.context() as context:
        context.setattr(Namer, "scored_captions", interrupted)
        result = call(*arguments)
    assert result.exit_code == 130 and "Interrupted: run the same again" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    Namer.asked = []
    return arguments


def test_goes_on_where_it_was_stopped(stopped, tmp_path):
    result = call(*stopped)
    assert result.exit_code == 0 and len(Namer.asked) == 1
    assert len(result.stdout.splitlines()) == 3
    whole = (tmp_path / "o.json").read_text()
    assert sorted(os.listdir(tmp_path)) == ["f", "o.json", "photos"]
    assert len(os.listdir(tmp_path / "f")) == 3
    assert call(*stopped).exit_code == 0 and (tmp_path / "o.json").read_text() == whole


def replaced(tmp_path):
    os.replace(tmp_path / "photos/c.jpg", tmp_path / "photos/a.png")


def without_a_figure(tmp_path):
    next((tmp_path / "f").iterdir()).unlink()


def of_another_captioner(tmp_path):
    next((tmp_path / "f").iterdir()).write_bytes(b"its figure")


def damaged(tmp_path):
    next((tmp_path / "o.json.parts").iterdir()).write_text('{"key": ')


def of_another_form(tmp_path):
    next((tmp_path / "o.json.parts").iterdir()).write_text('{"key": 1, "captions": []}')


@pytest.mark.parametrize(
    "change", [replaced, without_a_figure, of_another_captioner, damaged, of_another_form]
)
def test_what_changed_since_is_captioned_anew(stopped, tmp_path, change):
    change(tmp_path)
    result = call(*stopped)
    assert result.exit_code == 0, result.output
    assert len(Namer.asked) == (1 if change is replaced else 2)
    if change is replaced:
        assert "a.png: a red" in result.stdout


def test_photos_are_seen_as_in_training(namer, tmp_path, monkeypatch):
    """Shrunk once, whatever their size."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 400, 3), dtype="uint8")
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), noise[..., ::-1])
    seen, features = [], Namer.features
    monkeypatch.setattr(Namer, "features", lambda self, x: seen.extend(x) or features(self, x))
    assert call(path).exit_code == 0
    np.testing.assert_array_equal(seen[0], to_input(noise, 8))


def test_captions_of_other_weights_or_options_are_not_taken(stopped, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(Namer, "scored_captions", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            CliRunner().invoke(
                app, ["caption", *map(str, stopped), "--beam", "2"], None, None, False
            )
    monkeypatch.setattr(Namer, "decoder", SimpleNamespace(get_weights=lambda: [np.zeros(3)]))
    assert call(*stopped).exit_code == 0 and len(Namer.asked) == 3


def test_what_is_not_ours_stays(stopped, tmp_path):
    (tmp_path / "o.json.parts" / "diary.json").write_text("{}")
    assert call(*stopped).exit_code == 0
    assert os.listdir(tmp_path / "o.json.parts") == ["diary.json"]


def test_a_second_process_waits(namer, photos, tmp_path, caplog):
    output = tmp_path / "o.json"
    code = (
        "import sys\nfrom common.files import hold\n"
        "with hold(sys.argv[1], 'x'):\n    print('held', flush=True)\n    sys.stdin.read(1)"
    )
    command = [sys.executable, "-c", code, str(output_lock(output))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline().strip() == b"held"

        class LetGo(logging.Handler):
            def emit(self, record):
                if "Waiting for another process" in record.getMessage():
                    other.stdin.close()

        logger = logging.getLogger("common.files")
        logger.addHandler(handler := LetGo())
        try:
            assert call(photos, "--output", output).exit_code == 0
        finally:
            logger.removeHandler(handler)
    assert f"Waiting for another process that writes {output}" in caplog.text
    with hold(output_lock(output), "x"):
        pass
