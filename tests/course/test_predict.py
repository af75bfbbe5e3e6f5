"""`predict phase2`: a table of many slides."""

import json
import os
import sys

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from small_slides import add, png
from typer.testing import CliRunner

from common import plots
from common.course import predict
from common.course.cli import app
from common.data import histopathology
from common.evaluation.binary import patient_bootstrap
from common.evaluation.neighbours import Neighbourhood
from common.files import hold, output_lock
from common.models.ensemble import Ensemble

CLASSES = ["benign", "malignant"]


class Brightness:
    """A network that finds patches the more malignant the brighter they are."""

    name = "brightness"
    compiled = True
    input_shape = (None, 50, 50, 3)

    def __init__(self, bias=-100.0):
        self.bias = bias
        self.seen = 0

    def get_weights(self):
        return [np.array(self.bias)]

    def predict_on_batch(self, images):
        self.seen += len(images)
        logit = (images.mean(axis=(1, 2, 3)) + self.bias) / 20
        return np.stack([np.zeros_like(logit), logit], axis=1)


@pytest.fixture
def network(monkeypatch):
    model = Brightness()
    record = {"classes": CLASSES, "run_name": "first", "threshold": 0.5}

    def load_model(run, phase):
        assert phase == "phase2_histopathology"
        return model, record

    monkeypatch.setattr("common.training.released.load_model", load_model)
    return model


@pytest.fixture
def slides(tmp_path):
    """Two patients: "10" is right but for one patch; "9" has one class and is written first."""
    root = tmp_path / "slides"
    for patient, x, y, label, value in (
        ("9", 51, 1, 0, 20),
        ("10", 1, 51, 1, 220),
        ("10", 51, 1, 0, 30),
        ("10", 1, 1, 0, 150),
    ):
        add(root, patient, x, y, label, png(np.full((50, 50, 3), value, np.uint8)))
    return root


def call(slides, output, *more):
    return CliRunner().invoke(
        app, ["predict", "phase2", "--data", str(slides), "--output", str(output), *map(str, more)]
    )


def test_a_row_per_patch(slides, network, tmp_path):
    output = tmp_path / "tables" / "table.parquet"
    result = call(slides, output)
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(output)
    assert table.columns.tolist() == ["patient", "x", "y", "label", "probability"]
    assert table.dtypes[1:].tolist() == ["int32", "int32", "int32", "float32"]
    rows = table[["patient", "x", "y", "label"]].to_numpy().tolist()
    assert rows == [["10", 1, 1, 0], ["10", 51, 1, 0], ["10", 1, 51, 1], ["9", 51, 1, 0]]
    expected = 1 / (1 + np.exp(-(np.array([150, 30, 220, 20]) - 100) / 20))
    np.testing.assert_allclose(table["probability"], expected, rtol=1e-5)
    assert [path.name for path in output.parent.iterdir()] == ["table.parquet"]  # no parts left

    scores = json.loads(result.stdout.splitlines()[-1])
    assert (scores["n"], scores["patients"]) == (4, 2)
    assert scores["f1"] == pytest.approx(2 / 3) and scores["roc_auc"] == 1
    labels, patients = table["label"].to_numpy(), table["patient"].to_numpy()
    expected = patient_bootstrap(labels, table["probability"].to_numpy(), patients, 0.5)
    for name in ("f1", "weighted_f1", "balanced_accuracy"):
        ends = [scores[f"{name}_{end}"] for end in ("low", "high")]
        assert ends == pytest.approx(expected.loc[name, ["low", "high"]].tolist())
        told = f"{100 * scores[name]:.2f} % ({100 * ends[0]:.2f} to {100 * ends[1]:.2f})"
        assert told in result.stdout
    assert "F1 66.67 % (" in result.stdout and "a bootstrap over patients" in result.stdout


def test_patches_around_count_where_the_record_says_how(slides, network, tmp_path, monkeypatch):
    around = Neighbourhood(reach=50.0, centre=0.5, bias=0.1, own=0.8, others=1.5)
    record = {"classes": CLASSES, "run_name": "first", "threshold": 0.5}
    told = {"alone": record, "around": record | {"neighbours": around.to_dict()}}
    output, found = tmp_path / "table.parquet", {}
    for name, known in told.items():  # the same file: the first table is not taken for the second
        monkeypatch.setattr("common.training.released.load_model", lambda *_, r=known: (network, r))
        assert call(slides, output).exit_code == 0
        found[name] = pd.read_parquet(output)
    z = logit(found["alone"]["probability"].to_numpy("float64"))
    places = found["alone"][["x", "y"]].to_numpy()
    expected = expit(around(z, found["alone"]["patient"].to_numpy(), places))
    np.testing.assert_allclose(found["around"]["probability"], expected, rtol=1e-5)
    assert np.abs(found["around"]["probability"] - found["alone"]["probability"]).max() > 0.01


@pytest.mark.parametrize(
    "seen",
    [{"trained_on": ["9", "77"]}, {"members": [{"trained_on": ["77"]}, {"trained_on": ["9"]}]}],
    ids=["one network", "an ensemble"],
)
def test_whose_network_it_is_and_whom_it_has_seen(
    slides, network, tmp_path, monkeypatch, caplog, seen
):
    result = call(slides, tmp_path / "table.parquet")
    assert "threshold of the weights of the course, 0.500" in result.stdout
    assert "MODEL_CARD.md" in caplog.text and "trained on" not in caplog.text
    caplog.clear()
    record = {"classes": CLASSES, "run_name": "r", "threshold": 0.5, **seen}
    record["metrics"] = {"left_out_f1": 0.625}
    monkeypatch.setattr("common.training.released.load_model", lambda *_: (network, record))
    for module in ("options", "images"):
        monkeypatch.setattr(f"common.course.commands.{module}.check_run", lambda run, _=None: run)
    result = call(slides, tmp_path / "table.parquet", "--run", "r")
    assert "threshold of r, 0.500" in result.stdout and "MODEL_CARD" not in caplog.text
    assert "1 of these 2 patients have names of patients that the network r was" in caplog.text
    assert "scores here are too good. Of others its F1 was 62.5%." in caplog.text
    assert ("--left-out asks those that have not" in caplog.text) == ("members" in seen)


def logistic(name: str, slope: float) -> keras.Model:
    """A network whose log odds of the second class are `slope` times the mean brightness."""
    dense = keras.layers.Dense(2, use_bias=False)
    inputs = keras.Input((50, 50, 3), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, dense(mean), name=name)
    dense.set_weights([np.repeat([[0.0, slope / 3]], 3, axis=0)])
    return model


def test_each_patient_by_networks_that_have_not_seen_her(slides, tmp_path, monkeypatch, caplog):
    slopes, seen = (1.0, 2.0, 6.0), (["9"], ["10"], ["10", "77"])
    model = Ensemble([logistic(f"n{i}", slope) for i, slope in enumerate(slopes)])
    record = {"classes": CLASSES, "run_name": "three", "threshold": 0.5}
    record["members"] = [{"trained_on": patients} for patients in seen]
    monkeypatch.setattr("common.training.released.load_model", lambda *_: (model, record))
    output = tmp_path / "t.parquet"
    assert call(slides, output).exit_code == 0
    together = pd.read_parquet(output)
    result = call(slides, output, "--left-out")
    assert result.exit_code == 0, result.output
    assert "each patient by networks that have not seen her" in result.stdout
    left_out = pd.read_parquet(output)
    brightness = np.array([150, 30, 220, 20]) / 255
    np.testing.assert_allclose(logit(together["probability"]), 3 * brightness, rtol=1e-4)
    slope = np.array([1, 1, 1, (2 + 6) / 2])  # "10" by the first alone, "9" by the others
    np.testing.assert_allclose(logit(left_out["probability"]), slope * brightness, rtol=1e-4)

    record["members"][0] = {"trained_on": ["9", "10"]}
    result = call(slides, output, "--left-out")
    assert result.exit_code == 2 and "three was trained on patients named 10:" in result.stderr
    record["members"][0] = {}
    result = call(slides, output, "--left-out")
    assert result.exit_code == 2 and "does not say which patients" in result.stderr


@pytest.mark.parametrize("labelled", [True, False])
def test_patches_that_are_smaller_are_told(network, tmp_path, labelled, caplog):
    small = png(np.full((32, 32, 3), 90, np.uint8))
    for number in range(2):
        if labelled:
            add(tmp_path / "slides", "7", 1 + 50 * number, 1, 0, small)
        else:
            (tmp_path / "slides").mkdir(exist_ok=True)
            (tmp_path / "slides" / f"{number}.png").write_bytes(small)
    result = call(tmp_path / "slides", tmp_path / "table.parquet")
    assert "2 patches of 1 patient;" in result.stdout, result.output
    assert "2 patches are smaller than 50x50 and were padded" in caplog.text


def test_symmetries_are_averaged_where_the_record_says_so(slides, tmp_path, monkeypatch, network):
    record = {"classes": CLASSES, "run_name": "r", "threshold": 0.5, "tta": "symmetries"}
    monkeypatch.setattr("common.training.released.load_model", lambda *_: (network, record))
    assert call(slides, tmp_path / "t.parquet").exit_code == 0
    assert network.seen == 4 * 8


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_no_failure(tmp_path, network, label):
    root = tmp_path / "slides"
    add(root, "7", 1, 1, label)
    add(root, "7", 51, 1, label)
    result = call(root, tmp_path / "table.parquet")
    assert result.exit_code == 0, result.output
    assert "roc_auc cannot be computed:" in result.stdout
    scores = json.loads(result.stdout.splitlines()[-1])
    assert scores["n"] == 2 and scores["roc_auc"] is None and scores["accuracy"] is not None


def test_patients_that_are_done_are_kept(slides, network, tmp_path, monkeypatch):
    output = tmp_path / "table.parquet"
    monkeypatch.setattr(predict, "write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert call(slides, output).exit_code != 0
    monkeypatch.undo()
    monkeypatch.setattr(
        "common.training.released.load_model",
        lambda *_: (network, {"classes": CLASSES, "run_name": "first", "threshold": 0.5}),
    )
    network.seen = 0
    # One patient is changed, the other is taken as it was.
    add(slides, "9", 101, 1, 1)
    assert call(slides, output).exit_code == 0
    assert network.seen == 2
    assert len(pd.read_parquet(output)) == 5


@pytest.fixture
def parts(slides, network, tmp_path, monkeypatch):
    """What a call leaves that was killed before it joined its parts, one for each patient."""
    with monkeypatch.context() as context:
        context.setattr(predict, "write_table", lambda *_: 1 / 0)
        assert call(slides, tmp_path / "table.parquet").exit_code == 1
    network.seen = 0
    return sorted((tmp_path / "table.parquet.parts").glob("*.npz"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // (2 if path.suffix == ".npz" else 8)] ^= 1  # in what was predicted
    path.write_bytes(data)


def other_rows(path):
    if path.suffix == ".npz":
        np.savez(path, probability=np.zeros(0, "float32"))
    else:
        pd.read_parquet(path).iloc[:0].to_parquet(path)


def no_table(path):
    path.write_text("dear diary")


def empty(path):
    path.write_bytes(b"")


DAMAGES = [cut, flip, other_rows, no_table, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_made_again(slides, network, tmp_path, parts, damage):
    damage(parts[0])
    result = call(slides, tmp_path / "table.parquet")
    assert result.exit_code == 0, result.output
    assert 0 < network.seen < 4
    assert pd.read_parquet(tmp_path / "table.parquet")["patient"].tolist() == ["10"] * 3 + ["9"]
    assert sorted(os.listdir(tmp_path)) == ["slides", "table.parquet"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_whole_table_is_found_again_and_a_damaged_one_made_anew(
    slides, network, tmp_path, damage
):
    output = tmp_path / "table.parquet"
    first = call(slides, output)
    assert first.exit_code == 0 and network.seen == 4
    assert call(slides, output).stdout == first.stdout and network.seen == 4
    damage(output)
    assert call(slides, output).stdout == first.stdout and network.seen == 8


def test_a_second_process_waits_and_finds_all(slides, network, tmp_path, caplog, monkeypatch):
    output = tmp_path / "table.parquet"
    asked = []

    def watched(path, what):
        asked.append((path, what))
        return hold(path, what)

    monkeypatch.setattr("common.course.parts.hold", watched)
    assert call(slides, output).exit_code == 0
    assert asked == [(output_lock(output), f"writes {output}")]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_patients_whose_names_are_not_utf_8(slides, network, tmp_path):
    add(slides, "caf\udce9", 1, 1, 1)
    output = tmp_path / "table.parquet"
    result = call(slides, output)
    assert result.exit_code == 0, result.output
    assert pd.read_parquet(output)["patient"].tolist() == ["10"] * 3 + ["9", "caf\\udce9"]


def test_outputs_that_are_no_plain_files(slides, network, tmp_path):
    (tmp_path / "link.parquet").symlink_to(tmp_path / "real.parquet")
    assert call(slides, tmp_path / "link.parquet").exit_code == 0
    assert (tmp_path / "link.parquet").is_symlink()
    assert len(pd.read_parquet(tmp_path / "real.parquet")) == 4
    if os.path.exists("/dev/null"):
        result = call(slides, "/dev/null")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout.splitlines()[-1])["n"] == 4
    assert sorted(os.listdir(tmp_path)) == ["link.parquet", "real.parquet", "slides"]


@pytest.mark.parametrize("where", ["{slides}/9/x/t.parquet", "{long}.parquet", "{long}/t.parquet"])
def test_an_output_that_cannot_be_written_is_told_of_before_the_work(
    slides, network, tmp_path, where
):
    (slides / "9" / "x").write_text("a file")
    result = call(slides, where.format(slides=slides, long=tmp_path / ("x" * 300)))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "Could not write" in result.stderr and network.seen == 0


def test_not_enough_memory_is_told(slides, network, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_probability", lambda *_: bytearray(2**62))
    result = call(slides, tmp_path / "t.parquet")
    assert result.exit_code == 1 and "not enough memory" in result.stderr
    assert os.listdir(tmp_path) == ["slides"]


def test_parts_of_other_weights_are_not_taken(slides, network, tmp_path):
    output = tmp_path / "table.parquet"
    assert call(slides, output).exit_code == 0
    before = pd.read_parquet(output)
    network.bias = -150.0
    assert call(slides, output).exit_code == 0  # a table that is there is replaced
    assert (pd.read_parquet(output)["probability"] < before["probability"]).all()


def test_damaged_patches_are_named_and_the_rest_is_kept(slides, network, tmp_path):
    damaged = next((slides / "9").rglob("*.png"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    output = tmp_path / "table.parquet"
    result = call(slides, output)
    assert result.exit_code == 2
    assert damaged.name in result.stderr and "run the same again" in result.stderr
    assert not output.exists() and network.seen == 3
    add(slides, "9", 51, 1, 0)
    assert call(slides, output).exit_code == 0
    assert network.seen == 4


def test_large_patients_are_read_in_blocks(tmp_path, network, monkeypatch):
    root = tmp_path / "slides"
    for i in range(7):
        add(root, "1", 1 + 50 * i, 1, 0, png(np.full((50, 50, 3), 30 * i, np.uint8)))
    sizes = []
    read = histopathology.PatchList.read

    def watched(self, start, stop, padded):
        sizes.append(stop - start)
        return read(self, start, stop, padded)

    monkeypatch.setattr(histopathology.PatchList, "read", watched)
    monkeypatch.setattr(predict, "_BLOCK", 3)
    assert call(root, tmp_path / "table.parquet").exit_code == 0
    assert sizes == [3, 3, 1]
    assert pd.read_parquet(tmp_path / "table.parquet")["probability"].is_monotonic_increasing


def test_a_network_of_another_kind_is_refused(slides, network, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "input_shape", (None, 32, 32, 3), raising=False)
    result = call(slides, tmp_path / "table.parquet")
    assert result.exit_code == 2
    assert "32 x 32" in result.stderr and "50 x 50" in result.stderr


def test_a_run_whose_lesson_did_not_end_is_refused(slides, network, tmp_path, monkeypatch):
    record = {"classes": CLASSES, "run_name": "half", "metrics": {}}
    monkeypatch.setattr("common.training.released.load_model", lambda *_: (network, record))
    result = call(slides, tmp_path / "table.parquet")
    assert result.exit_code == 2 and "Run that lesson again" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--output", "table.csv"], "ends in .parquet"),
        (["--output", "t.parquet", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_wrong_options(slides, network, tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["predict", "phase2", "--data", str(slides), *arguments])
    assert result.exit_code == 2 and problem in result.stderr


# --- patches without labels ---


def patch(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(np.full((50, 50, 3), value, np.uint8)))


@pytest.fixture
def unlabelled(tmp_path):
    """Two patients; the places of the second one's patches are not told."""
    root = tmp_path / "new"
    patch(root / "a" / "a_idx5_x51_y1251_class0.png", 20)
    patch(root / "a" / "x101_y1251.png", 220)
    patch(root / "b" / "one.png", 150)
    return root


def test_patches_without_labels(unlabelled, network, tmp_path):
    output = tmp_path / "t.parquet"
    result = call(unlabelled, output)
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(output)
    assert table.columns.tolist() == ["patient", "file", "x", "y", "probability"]
    assert table["patient"].tolist() == ["a", "a", "b"]
    files = ["a/a_idx5_x51_y1251_class0.png", "a/x101_y1251.png", "b/one.png"]
    assert table["file"].tolist() == files
    assert table["x"].fillna(-7).tolist() == [51, 101, -7]
    expected = 1 / (1 + np.exp(-(np.array([20, 220, 150]) - 100) / 20))
    np.testing.assert_allclose(table["probability"], expected, rtol=1e-5)
    scores = json.loads(result.stdout.splitlines()[-1])
    assert scores == {"n": 3, "patients": 2, "threshold": 0.5, "positives": 2}
    assert call(unlabelled, output).stdout == result.stdout and network.seen == 3
    patch(unlabelled / "b" / "two.png", 0)
    assert call(unlabelled, output).exit_code == 0 and network.seen == 7


def test_one_folder_is_one_patient(unlabelled, network, tmp_path):
    assert call(unlabelled / "a", tmp_path / "t.parquet").exit_code == 0
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert table["patient"].tolist() == ["a", "a"] and table["y"].tolist() == [1251, 1251]


def labelled_too(root):
    add(root, "9", 1, 1, 1)


def loose_too(root):
    patch(root / "c.png", 0)


def deeper_too(root):
    patch(root / "c" / "d" / "e.png", 0)


def larger(root):
    (root / "a" / "c.png").write_bytes(png(np.zeros((96, 50, 3), np.uint8)))


def only_text(root):
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))


@pytest.mark.parametrize(
    "change, problem, advice",
    [
        (labelled_too, "in no folder 0 or 1: a, b", "predict each by a call of its own"),
        (loose_too, "1 patches of no patient beside the patients a, b", "a folder of their own"),
        (deeper_too, "c/d/", "Move them up"),
        (larger, "a/c.png: 50x96 pixels", "cut larger ones into patches"),
        (only_text, "has no patch; it has 2 folders", "<patient>/*.png"),
    ],
)
def test_what_is_wrong_with_unlabelled_patches(
    unlabelled, network, tmp_path, change, problem, advice
):
    change(unlabelled)
    result = call(unlabelled, tmp_path / "t.parquet")
    assert result.exit_code == 2 and problem in result.stderr and advice in result.stderr
    assert not (tmp_path / "t.parquet").exists()


def test_the_folder_of_one_labelled_patient(slides, network, tmp_path):
    result = call(slides / "10", tmp_path / "t.parquet")
    assert result.exit_code == 2 and f"Give the folder above it, {slides}" in result.stderr


# --- maps ---


def test_maps_of_labelled_slides(slides, network, tmp_path, monkeypatch):
    maps, drawn = tmp_path / "maps", {}

    def figure(probabilities, truths, threshold, tissue, **options):
        drawn.update(tissue)
        return probability_maps(probabilities, truths, threshold, tissue, **options)

    probability_maps = plots.probability_maps
    monkeypatch.setattr(plots, "probability_maps", figure)
    result = call(slides, tmp_path / "t.parquet", "--maps", maps)
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(maps)) == ["10.png", "9.png"]
    assert cv2.imread(str(maps / "10.png")).shape[1] > 300
    # Two rows of two patches and no fourth; the brightest at the lower left, (1, 51).
    np.testing.assert_array_equal(drawn["10"][::50, ::50, 0], [[150, 30], [220, 255]])
    assert drawn["10"].shape == (100, 100, 3) and drawn["9"].shape == (50, 50, 3)


def test_maps_of_slides_without_labels(unlabelled, network, tmp_path):
    maps = tmp_path / "maps"
    result = call(unlabelled, tmp_path / "t.parquet", "--maps", maps)
    assert result.exit_code == 1 and os.listdir(maps) == ["a.png"]
    assert "Not drawn: 1 of 1 patches of b, as no place" in result.stderr
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 3


def test_no_map_without_places_is_told_before_the_work(unlabelled, network, tmp_path):
    result = call(unlabelled / "b", tmp_path / "t.parquet", "--maps", tmp_path / "maps")
    assert result.exit_code == 2 and "leave --maps out" in result.stderr
    assert network.seen == 0 and not (tmp_path / "maps").exists()


def test_maps_write_over_no_patch(unlabelled, network, tmp_path):
    patch(unlabelled / "a.png", 0)
    (unlabelled / "b" / "one.png").rename(unlabelled / "b" / "x1_y1.png")
    root = unlabelled / "a"
    (root / "x101_y1251.png").rename(root / "a.png")
    result = call(root, tmp_path / "t.parquet", "--maps", root)
    assert result.exit_code == 2 and "--maps would write over" in result.stderr


# --- options ---


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["phase3", "--data", "."], "Choose phase1 or phase2; `caption`"),
        (["phase2", "--data", "."], "--output is missing"),
        (["phase2", "--data", ".", "--data", ".", "--output", "t.parquet"], "several --data"),
        (["phase2", "--data", ".", "--recursive", "--output", "t.parquet"], "--recursive is"),
        (["phase1", "--data", ".", "--maps", "m"], "--maps draws slides"),
        (["phase1", "--data", ".", "--left-out"], "--left-out is for patients"),
        (["phase1", "--data", ".", "--output", "t.txt"], "ends in .csv or .parquet"),
        (["phase1", "--data", "nowhere"], "There is no file or folder nowhere"),
        (["phase1", "--data", ".", "--run", "nosuch"], "There is no run 'nosuch'"),
        (["phase1", "--data", ".", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_what_is_told_before_a_backend_is_started(tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.course.quiet.load_backend", lambda: 1 / 0)
    result = CliRunner().invoke(app, ["predict", *arguments])
    assert result.exit_code == 2 and problem in result.stderr, result.output
    assert os.listdir(tmp_path) == []
