"""What is kept of a training, and when one is stopped."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from small import small_data, small_network

from common.errors import CourseError, DataError
from common.files import own_prefix
from common.training.backend import device_settings
from common.training.batches import ImageBatches
from common.training.callbacks import Checkpoint, SeedEpochs
from common.training.classification import Classification
from common.training.experiment import run_config, train
from common.training.fit import fit
from common.training.recipes import Recipe
from common.training.runs import Run

PLAN = Recipe(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.01, momentum=0.9,
              flip="none", shift=0)  # fmt: skip
SETTINGS = device_settings(precision="float32")


def trained(folder, network=None, plan=PLAN, validation=None, **options):
    data = small_data()
    network = network or small_network()
    fit(network, data, validation, plan, SETTINGS, folder=folder, tensorboard=False,
        progress=False, **options)  # fmt: skip
    return network


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with the checkpoint of a training that has two of four epochs."""
    folder = tmp_path_factory.mktemp("whole")
    trained(folder, validation=small_data(16), keep_best=True)
    return folder


def copied(whole: Path, folder: Path) -> Path:
    for path in whole.glob("*.h5"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_checkpoint_damaged_anywhere_is_noticed_or_right(whole, tmp_path):
    folder = copied(whole, tmp_path)
    path = folder / "checkpoint.weights.h5"
    content = np.frombuffer(path.read_bytes(), np.uint8)
    network = small_network()
    right = trained(copied(whole, tmp_path), plan=PLAN).get_weights()
    rng = np.random.default_rng(0)
    told = 0
    for place in rng.integers(0, len(content), 12):
        damaged = content.copy()
        damaged[place : place + 8] ^= 0x55
        path.write_bytes(damaged)
        try:
            trained(folder, network)
        except DataError as error:
            assert "checkpoint.weights.h5" in str(error) and f"Delete {folder}" in str(error)
            told += 1
        else:
            for a, b in zip(network.get_weights(), right, strict=True):
                np.testing.assert_array_equal(a, b)
    assert told > 3


def flip_a_weight(path):
    with h5py.File(path, "r+") as file:
        name = next(n for n in _datasets(file) if file[n].shape and "course" not in n)
        file[name][...] = file[name][()] + 1


def _datasets(file):
    names = []
    file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
    return names


@pytest.mark.parametrize("name", ["checkpoint.weights.h5", "best.weights.h5"])
def test_one_changed_weight_is_noticed(name, whole, tmp_path):
    """HDF5 itself keeps no checksums."""
    folder = copied(whole, tmp_path)
    flip_a_weight(folder / name)
    with pytest.raises(DataError, match=f"{name} .*its checksum differs"):
        trained(folder, validation=small_data(16), keep_best=True)


STATES = {
    "no state": None,
    "a list": [],
    "no history": {"epoch": 2, "best": None, "seconds": 0.0},
    "text": {"epoch": "2", "history": [], "best": None, "seconds": 0.0},
    "other epochs": {"epoch": 3, "history": [{}], "best": None, "seconds": 0.0},
    "deep": None,
}


@pytest.mark.parametrize("what", STATES)
def test_a_state_of_another_form_is_told(what, whole, tmp_path):
    folder = copied(whole, tmp_path)
    with h5py.File(folder / "checkpoint.weights.h5", "r+") as file:
        del file["course_state"], file.attrs["course_digest"]
        text = "[" * 10_000 if what == "deep" else json.dumps(STATES[what])
        if what != "no state":
            file.create_dataset("course_state", data=np.frombuffer(text.encode(), "uint8"))
    with pytest.raises(DataError, match=r"checkpoint\.weights\.h5"):
        trained(folder)


def test_the_start_of_a_second_process_deletes_nothing_of_the_first(tmp_path):
    ours = tmp_path / f"{own_prefix('writing')}x.weights.h5"
    ours.write_bytes(b"half written")
    network = small_network()
    network.compile("sgd")
    Checkpoint(tmp_path).restore(network)
    assert ours.exists()


# --- a loss that is no number ---


def high(folder, **changes):
    plan = replace(PLAN, learning_rate=1e30, epochs=3, **changes)
    return trained(folder, plan=plan)


def test_a_training_that_diverges_is_stopped_and_told(tmp_path):
    with pytest.raises(CourseError, match=r"no number any more .* in epoch 1.*Lower the learning"):
        high(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_run_that_diverges_is_no_finished_run(tmp_path):
    data = small_data()
    from common.models.resnet import ResNetConfig

    config = ResNetConfig(blocks=(1,), widths=(4,))
    plan = replace(PLAN, learning_rate=1e30, epochs=3)
    learns = Classification(config, data, data)
    made_of = run_config(learns, plan, SETTINGS, phase="phase1_cifar", dataset="small",
                         profile="smoke")  # fmt: skip
    run = Run("high", made_of, tmp_path)
    for _ in range(2):
        with pytest.raises(CourseError, match="no number"):
            train(learns, plan, SETTINGS, run=run, progress=False)
    assert not run.finished and not (run.folder / "model.keras").exists()


# --- two processes ---

CHILD = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from small import small_data
from test_callbacks import *
from common.models.resnet import ResNetConfig

config = ResNetConfig(blocks=(1,), widths=(4,))
plan = replace(PLAN, epochs=40)
data = small_data()
learns = Classification(config, data)
made_of = run_config(learns, plan, SETTINGS, phase="p", dataset="d", profile="smoke")
run = Run("twice", made_of, Path({folder!r}))
print("ready", flush=True)
input()
result = train(learns, plan, SETTINGS, run=run, progress=False)
print(len(result.history), sum(float(abs(w).sum()) for w in result.network.get_weights()))
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="no other with this backend")
def test_two_processes_train_one_run_once(tmp_path):
    here = Path(__file__).parent
    code = CHILD.format(tests=str(here), root=str(here.parents[1]), folder=str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate() for process in both]
    results = [text.splitlines()[-1] for text, _ in answers]
    assert results[0] == results[1] and results[0].startswith("40 ")
    waited = [error for _, error in answers if "Waiting for another process that trains" in error]
    assert len(waited) == 1
    assert not [p for p in (tmp_path / "twice").iterdir() if p.name.startswith(".writing")]


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.7, 0.7, 0.6], 2), ([0.0, 0.0, 0.0], 3), ([0.0, 0.2, 0.0, 0.2], 2)],
)
def test_of_equally_good_epochs_the_first_is_kept_if_its_score_tells_anything(
    tmp_path, scores, best
):
    network = small_network()
    network.compile("sgd")
    checkpoint = Checkpoint(tmp_path, monitor="val_score")
    checkpoint.set_model(network)
    assert checkpoint.restore(network) == 0
    for epoch, score in enumerate(scores):
        network.set_weights([np.full(w.shape, epoch, "float32") for w in network.get_weights()])
        checkpoint.on_epoch_begin(epoch)
        checkpoint.on_epoch_end(epoch, {"val_score": score})
    assert checkpoint.state["best"] == {"epoch": best, "value": max(scores)}
    checkpoint.load_best(network)
    assert all((np.asarray(weight) == best - 1).all() for weight in network.get_weights())


def test_dropout_is_another_in_each_epoch_and_the_same_again():
    model = small_network(dropout=0.5)
    model.compile("sgd", "mse")
    images = np.ones((4, 16, 8), "float32")
    dropout = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    seeded = SeedEpochs(ImageBatches(small_data(), 16), seed=3)
    seeded.set_model(model)

    def kept(epoch):
        seeded.on_epoch_begin(epoch)
        return keras.ops.convert_to_numpy(dropout(images, training=True))

    first, second, again = kept(0), kept(1), kept(0)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
