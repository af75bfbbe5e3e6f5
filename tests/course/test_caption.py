"""The command `caption`, with a stand-in for the trained captioner."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from common.course.cli import app
from common.training import captioner


class Namer:
    """Names the colour of a photo, and looks at its middle."""

    class extractor:
        size = 8

    record = {"decoder": {"name": "namer"}}
    asked: list = []

    def features(self, images):
        return np.stack([image.mean(axis=(0, 1)) for image in images])

    def caption_features(self, features, beams, **options):
        self.asked.append((len(features), beams, options))
        return [["a", ("red", "green", "blue")[int(colour.argmax())]] for colour in features]

    def attention(self, features, captions):
        maps = np.zeros((2, 7, 7), "float32")
        maps[:, 3, 3] = 1
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
    expected = [("c.jpg", "a red"), ("a.png", "a green"), ("b.jpg", "a blue"), ("c.jpg", "a red")]
    assert json.loads(output.read_text()) == [
        {"image": name, "caption": text} for name, text in expected
    ]
    assert result.stdout.splitlines() == [f"{photos / name}: {text}" for name, text in expected]
    assert namer == [None] and Namer.asked == [(4, None, {})]


def test_options_reach_the_captioner(namer, photos):
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
    assert [item["image"] for item in json.loads(output.read_text())] == ["a.png", "c.jpg"]
    assert f"Left out: {photos / 'b.jpg'}: truncated or damaged JPEG file." in result.stderr
    assert "text.jpg: not a JPEG, PNG, BMP, WebP or GIF" in result.stderr


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "There is no file or folder nowhere"),
        (["photos", "--beam", "0"], "--beam must be 1 or more. Received: 0"),
        (["empty"], "has no image"),
    ],
)
def test_wrong_arguments(namer, photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_one_pixel_and_a_hundred_million(namer, tmp_path):
    for name, shape in (("one.png", (1, 1)), ("large.jpg", (9000, 12000))):
        pixels = np.zeros((*shape, 3), np.uint8)
        pixels[..., 1] = 250
        cv2.imwrite(str(tmp_path / name), pixels)
    result = call(tmp_path / "one.png", tmp_path / "large.jpg")
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == ["a green"] * 2
