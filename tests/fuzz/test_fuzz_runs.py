"""What trainings leave: runs, records, models, checkpoints and features, damaged in any way."""

import json
import os
import time

import numpy as np
import pytest
from fuzzing import (
    changed_json,
    damages,
    folder,
    fuzz,
    json_of,
    json_values,
    objects,
    overwritings,
    plain_texts,
    texts,
    told,
)
from hypothesis import strategies as st
from small import small_network
from small_photos import tiny_backbone, write_photos

from common.data.vocabulary import Vocabulary
from common.models.resnet import ResNetConfig
from common.training import store
from common.training.callbacks import Checkpoint
from common.training.captioner import load_captioner
from common.training.features import extract_features
from common.training.runs import (
    Run,
    check_files,
    file_hashes,
    read_history,
    read_model,
    read_record,
    slug,
)

# --- names and records ---

names = texts | st.integers(1, 300).map("a/é".__mul__) | st.text("ab./-_~\\\0 é", max_size=8)


@fuzz(30, name=names, config=st.dictionaries(texts, json_values, max_size=2))
def test_runs_of_any_name(name, config):
    with folder() as root:
        for make in (Run, Run.labelled):
            run = told(make, name, config, root / "runs")
            if run is not None:
                assert (run.folder / "config.json").resolve().is_relative_to(root / "runs")
                assert not run.finished
        assert {*os.listdir(root)} <= {"runs"}
        assert told(Run, slug(name), {}, root / "other") is not None


files = st.dictionaries(st.sampled_from(["model.keras", "vocabulary.json"]) | texts, texts)
records = objects(run_name=texts, metrics=st.dictionaries(texts, st.floats()), files=files)


@fuzz(60, record=records, damage=damages, advice=st.none() | plain_texts)
def test_records_of_any_form(record, damage, advice):
    with folder() as root:
        (root / "model.keras").write_bytes(b"x")
        path = root / "record.json"
        for content in (json.dumps(record).encode(), damage(json.dumps(record).encode())):
            path.write_bytes(content)
            found = told(read_record, root)
            if found is not None:
                assert isinstance(found.get("run_name", ""), str)
                told(check_files, root, found, advice)
                check_files(root, {**found, "files": file_hashes(root)})


HISTORY = b"epoch,loss,seconds\n1,0.5,2.0\n2,0.25,2.0\n"


@fuzz(80, damage=damages, column=st.text(st.characters(codec="utf-8"), max_size=10))
def test_histories_of_any_bytes(damage, column):
    with folder() as root:
        for content in (damage(HISTORY), damage(HISTORY.replace(b"loss", column.encode()))):
            (root / "history.csv").write_bytes(content)
            table = told(read_history, root)
            assert table is None or {"epoch", "seconds"} <= {*table}


# --- networks ---


@pytest.fixture(scope="module")
def network():
    network = small_network()
    network.compile("sgd", "mse")
    return network


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    network.save(path)
    return path.read_bytes()


def _same(weights, others):
    return all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


@fuzz(40, damage=damages)
def test_a_damaged_model_is_the_same_or_refused(network, model, damage):
    with folder() as root:
        (root / "model.keras").write_bytes(damage(model))
        found = told(read_model, root / "model.keras")
        assert found is None or _same(found.get_weights(), network.get_weights())


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    kept = Checkpoint(tmp_path_factory.mktemp("checkpoint"), "val_accuracy")
    kept.set_model(network)
    network.optimizer.build(network.trainable_variables)
    for epoch in range(2):
        kept.on_epoch_begin(epoch)
        kept.on_epoch_end(epoch, {"loss": 0.5 - epoch / 4, "val_accuracy": 0.5 + epoch / 4})
    return kept


@pytest.mark.parametrize("kind", [overwritings, damages], ids=["overwritten", "damaged"])
@fuzz(20, data=st.data())
def test_a_damaged_checkpoint_is_the_same_or_refused(network, checkpoint, kind, data):
    damage = data.draw(kind)
    wanted = network.get_weights()
    with folder() as root:
        (root / checkpoint.path.name).write_bytes(damage(checkpoint.path.read_bytes()))
        (root / checkpoint.best_path.name).write_bytes(damage(checkpoint.best_path.read_bytes()))
        other = Checkpoint(root, "val_accuracy")
        epoch = told(other.restore, network)
        if epoch is not None:
            assert epoch == 2 and other.state == checkpoint.state
            assert _same(wanted, network.get_weights())
        other.state = checkpoint.state
        if told(lambda: other.load_best(network) or "loaded"):
            assert _same(wanted, network.get_weights())
    network.set_weights(wanted)


# --- features ---


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    made = write_photos(root / "photos", 4), tiny_backbone(), root / "features"
    return *made, np.array(_extract(*made).array)


def _extract(photos, backbone, root):
    return extract_features(photos, backbone, root=root, batch_size=2, progress=False)


KEPT = "as it was"
STATE = dict.fromkeys(["key", "done", "bad", "blocks", "kept"], KEPT)
states = changed_json(STATE) | changed_json({**STATE, "blocks": [[0, 2, 1], [2, 4, 1]]})


@fuzz(25, damage=damages, which=st.integers(0, 6), state=states, images=json_values)
def test_damaged_features_are_made_again(photos, damage, which, state, images):
    data, backbone, root, wanted = photos
    folder = next(path.parent for path in root.rglob("state.json"))
    path = folder / ["features.npy", "images.json", "state.json"][which % 3]
    if which < 3:
        path.write_bytes(damage(path.read_bytes() if path.exists() else b"{}"))
        os.utime(path, ns=(0, time.time_ns() + 10**9))  # within a tick of the clock else
    elif which < 6:
        path.unlink(missing_ok=True)
    elif isinstance(state, dict):
        right = json.loads((folder / "state.json").read_text())
        state = {name: right.get(name) if v == KEPT else v for name, v in state.items()}
        (folder / "state.json").write_text(json.dumps(state))
    else:
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "images.json").write_text(json.dumps(images))
    assert np.array_equal(_extract(data, backbone, root).array, wanted)


# --- records of networks ---

# No number of which a network takes gigabytes.
counts = st.integers(-2, 20) | st.integers(2**63, 2**70)
small_values = json_of(counts | plain_texts).map(
    lambda value: json.loads(
        json.dumps(value, allow_nan=True), parse_int=lambda n: _bounded(int(n))
    )
)


def _bounded(number):
    return number if number < 30 or number > 2**62 else 30


NETWORK = ResNetConfig(blocks=(1,), widths=(4,)).to_dict()


@fuzz(15, record=changed_json({"network": NETWORK, "classes": ["a", "b"]}, small_values))
def test_records_of_networks_of_any_form(record):
    with folder() as root:
        network = told(store.build, record, root) if isinstance(record, dict) else None
        assert network is None or network.output_shape == (None, len(record["classes"]))


DECODER = {"name": "multi_head", "vocabulary_size": 6, "width": 4, "num_heads": 2}
DECODER |= {"num_blocks": 1, "max_length": 6, "dropout": 0.1, "vector_mode": "tuned"}
RECORD = {
    "phase": store.CAPTIONING,
    "run_name": "a",
    "decoder": DECODER,
    "backbone": {"name": "tiny", "weights": "x", "hash": "0", "shape": [2, 2, 6]},
    "decoding": {"beams": 3, "length_penalty": 0.7},
}


@fuzz(25, record=changed_json(RECORD, small_values))
def test_records_of_captioners_of_any_form(record):
    with folder() as root:
        (root / "record.json").write_text(json.dumps(record))
        Vocabulary(["a", "dog"]).save(root / "vocabulary.json")
        found = told(store.read_captioner_record, root)
        if found is not None:
            told(store.build, found, root)
        told(store.read_captioner, root)
        told(load_captioner, root)
