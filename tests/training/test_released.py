"""Weights that come with the repository, in a repository of the test's own."""

import h5py
import numpy as np
import pytest
from small import small_data

from common.errors import ConfigError, DataError
from common.models.resnet import ResNetConfig, resnet
from common.training import released

NETWORK = ResNetConfig(blocks=(1, 1), widths=(8, 16))
RECORD = {"network": NETWORK.to_dict(), "classes": ["a", "b", "c", "d"], "seed": 3}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr("common.paths.repository_root", lambda: tmp_path)
    return tmp_path


def test_released_weights_give_nearly_the_same_logits(root):
    assert released.released_record() is None
    network = resnet(NETWORK, 4)
    folder = released.released_folder()
    assert folder == root / "phase1_cifar" / "weights"
    released.release(network, dict(RECORD), folder)
    loaded, record = released.load_model()
    assert record == released.released_record()
    assert record.pop("files").keys() == {"model.weights.h5"}
    assert record == RECORD
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    images = small_data(8).images
    before = network.predict_on_batch(images)
    np.testing.assert_allclose(loaded.predict_on_batch(images), before, rtol=0.01, atol=0.01)


def test_large_arrays_keep_eight_bits_and_the_file_is_compressed(root):
    network = resnet(ResNetConfig(blocks=(1, 1), widths=(32, 64)), 4)
    record = RECORD | {"network": ResNetConfig(blocks=(1, 1), widths=(32, 64)).to_dict()}
    folder = released.released_folder()
    released.release(network, record, folder)
    loaded, _ = released.load_model()
    for before, after in zip(network.get_weights(), loaded.get_weights(), strict=True):
        bits = 8 if before.size >= 4096 else 11  # half of the last bit that is kept
        np.testing.assert_allclose(after, before, rtol=1.3 * 2.0**-bits, atol=1e-6)
    stored = []
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(
            lambda _, item: (
                stored.append(item.id.get_storage_size() / item.nbytes)
                if isinstance(item, h5py.Dataset) and item.size >= 4096
                else None
            )
        )
    assert len(stored) == 4 and max(stored) < 0.85


def test_damaged_weights_are_named(root):
    folder = released.released_folder()
    released.release(resnet(NETWORK, 4), dict(RECORD), folder)
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"model\.weights\.h5 is missing or damaged"):
        released.load_model()
    weights.unlink()
    with pytest.raises(DataError, match=r"model\.weights\.h5 is missing or damaged"):
        released.load_model()
    (folder / "record.json").unlink()
    with pytest.raises(DataError, match=r"record\.json"):
        released.load_model()


def test_outside_of_a_repository(monkeypatch):
    monkeypatch.setattr("common.paths.repository_root", lambda: None)
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    assert released.released_record() is None
    with pytest.raises(ConfigError, match="not installed with the course. Install it anew"):
        released.load_model()
