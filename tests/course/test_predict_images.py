"""`predict phase1`: labels of images that nobody has labelled."""

import os

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from common.course import parts, predict_images
from common.course.cli import app

CLASSES = ["blue", "green", "red, deep"]


class Colours:
    """A network that tells the strongest colour, with logits of 0 and 2."""

    name = "colours"
    compiled = True
    input_shape = (None, None, None, 3)
    output_shape = (None, 3)

    def __init__(self):
        self.seen = 0

    def get_weights(self):
        return [np.ones(1)]

    def predict_on_batch(self, images):
        self.seen += len(images)
        assert images.shape[1:] == (32, 32, 3)
        strongest = images.mean(axis=(1, 2))[:, ::-1].argmax(axis=1)
        return 2.0 * np.eye(3, dtype="float32")[strongest]


@pytest.fixture
def record():
    return {"classes": CLASSES, "run_name": "mine", "calibration": {"temperature": 0.5}}


@pytest.fixture
def network(monkeypatch, record):
    model = Colours()
    monkeypatch.setattr("common.training.released.load_model", lambda run, phase: (model, record))
    return model


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for i, name in enumerate(("b.jpg", "a.png", "deep/c.bmp")):  # blue, green, red
        pixels = np.zeros((50, 40, 3), np.uint8)
        pixels[..., i] = 250
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), pixels)
    return folder


def call(*arguments):
    return CliRunner().invoke(app, ["predict", "phase1", *map(str, arguments)])


SURE = np.exp(4) / (np.exp(4) + 2)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_per_image(network, images, tmp_path, suffix):
    output = tmp_path / "tables" / f"t{suffix}"
    result = call("--data", images, "--recursive", "--output", output)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}: 3 images: green 1, blue 1, red, deep 1\n"
    assert "not calibrated" not in result.stderr
    table = (pd.read_csv if suffix == ".csv" else pd.read_parquet)(output)
    assert table.columns.tolist() == ["path", "label", "probability", *CLASSES]
    assert table["path"].tolist() == [str(images / n) for n in ("a.png", "b.jpg", "deep/c.bmp")]
    assert table["label"].tolist() == ["green", "blue", "red, deep"]
    np.testing.assert_allclose(table["probability"], SURE, rtol=1e-5)
    np.testing.assert_allclose(table[CLASSES].sum(axis=1), 1, rtol=1e-5)
    assert os.listdir(output.parent) == [output.name]


def test_without_a_table_the_labels_are_printed(network, images, record):
    result = call("--data", images / "b.jpg", images, "--data", images)
    assert result.exit_code == 0, result.output
    names = [(images / "b.jpg", "blue"), (images / "a.png", "green")]
    assert result.stdout.splitlines() == [f"{path}: {label} {SURE:.1%}" for path, label in names]
    del record["calibration"]
    result = call("--data", images / "b.jpg")
    assert result.exit_code == 0 and "blue 78.7%" in result.stdout
    assert "not calibrated: the record of mine holds no temperature" in result.stderr


@pytest.mark.parametrize("found", [{}, {"temperature": 0}, {"temperature": "warm"}, [1], "x"])
def test_a_damaged_calibration_is_told(network, images, record, found):
    record["calibration"] = found
    result = call("--data", images)
    assert result.exit_code == 2 and "calibration without a temperature" in result.stderr


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_images_that_cannot_be_read_are_left_out(network, images, tmp_path, suffix):
    (images / "a.png").write_bytes((images / "a.png").read_bytes()[:-20])
    output = tmp_path / f"t{suffix}"
    result = call("--data", images, "--output", output)
    assert result.exit_code == 1
    assert f"Left out: {images / 'a.png'}: truncated or damaged PNG file." in result.stderr
    table = (pd.read_csv if suffix == ".csv" else pd.read_parquet)(output)
    assert table["label"].tolist() == ["blue"]
    (images / "b.jpg").write_text("dear diary")
    result = call("--data", images, "--output", output)
    assert result.exit_code == 1 and "0 images: none" in result.stdout and network.seen == 1


def test_classes_named_as_a_column(network, images, tmp_path, record):
    record["classes"] = ["path", "label", "other"]
    assert call("--data", images, "--output", tmp_path / "t.csv").exit_code == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert table.columns.tolist()[3:] == ["class path", "class label", "other"]
    assert table["label"].tolist() == ["label", "path"]


def test_the_table_is_no_image(network, images, tmp_path):
    (images / "a.png").rename(images / "a.csv.png")
    os.link(images / "a.csv.png", images / "t.csv")
    result = call("--data", images / "t.csv", "--output", images / "t.csv")
    assert result.exit_code == 2 and "--output would write over" in result.stderr


@pytest.fixture
def stopped(network, images, tmp_path, monkeypatch):
    """The arguments of a call that was interrupted in its third block of one image each."""
    monkeypatch.setattr(predict_images, "_BLOCK", 1)
    save, saved = parts.save_part, []

    def interrupted(path, **arrays):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(save(path, **arrays))

    arguments = ["--data", images, "--recursive", "--output", tmp_path / "t.csv"]
    with monkeypatch.context() as context:
        context.setattr(parts, "save_part", interrupted)
        assert call(*arguments).exit_code == 130
    assert len(os.listdir(tmp_path / "t.csv.parts")) == 2
    network.seen = 0
    return arguments


def test_goes_on_where_it_was_stopped(stopped, network, tmp_path):
    assert call(*stopped).exit_code == 0
    assert network.seen == 1 and len(pd.read_csv(tmp_path / "t.csv")) == 3
    assert sorted(os.listdir(tmp_path)) == ["images", "t.csv"]


@pytest.mark.parametrize("content", [b"", b"dear diary", b"PK\x03\x04" + bytes(50)])
def test_a_damaged_part_is_made_again(stopped, network, tmp_path, content):
    next((tmp_path / "t.csv.parts").iterdir()).write_bytes(content)
    assert call(*stopped).exit_code == 0
    assert network.seen == 2 and len(pd.read_csv(tmp_path / "t.csv")) == 3


def test_an_image_that_changed_is_predicted_anew(stopped, network, images, tmp_path):
    os.replace(images / "deep" / "c.bmp", images / "a.png")
    assert call(*stopped).exit_code == 0
    assert pd.read_csv(tmp_path / "t.csv")["label"].tolist() == ["red, deep", "blue"]
