"""Vectors from encoders like those of TensorFlow Hub and KerasHub, made here."""

import sys

import keras
import numpy as np
import pytest

from common.data import Vocabulary
from common.errors import ConfigError, DataError
from common.models.hub_bert import bert_vectors, keras_bert_vectors
from common.training.caption_task import embedding_vectors

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow Hub needs TensorFlow"
)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog", "grass", "skate", "##board", "##er"]
VOCABULARY = Vocabulary(["dog", "skateboarder", "skateboard", "okapi"], 1)


def encoder(folder, name="model", inputs=None, output="sequence_output", vocabulary=True):
    """A SavedModel that adds what it is told of each place to a vector of the piece."""
    import tensorflow as tf

    names = inputs or ("input_word_ids", "input_mask", "input_type_ids")
    signature = {key: tf.TensorSpec((None, None), tf.int32, name=key) for key in names}
    file = folder / "vocab.txt"
    file.write_text("\n".join(PIECES) + "\n")

    class Encoder(tf.Module):
        def __init__(self):
            super().__init__()
            table = np.random.default_rng(0).standard_normal((len(PIECES), 6))
            self.table = tf.Variable(table.astype("float32"))
            if vocabulary:
                self.vocab_file = tf.saved_model.Asset(str(file))
                self.do_lower_case = tf.Variable(True, trainable=False)

        @tf.function(input_signature=[signature])
        def __call__(self, x):
            ids, mask, kind = (x[key] for key in names)
            found = tf.gather(self.table, ids) + tf.cast(kind, "float32")[..., None]
            # Every place sees all that are not masked: pads must be masked, or they show.
            seen = tf.cast(mask, "float32")[..., None]
            whole = tf.reduce_sum(found * seen, axis=1) / tf.reduce_sum(seen, axis=1)
            return {output: found + whole[:, None], "pooled_output": whole}

    model = Encoder()
    tf.saved_model.save(model, str(folder / name))
    return folder / name, model.table.numpy()


def by_hand(table, pieces):
    ids = [PIECES.index(piece) for piece in ("[CLS]", *pieces, "[SEP]")]
    return table[ids[1:-1]].mean(axis=0) + table[ids].mean(axis=0)


@needs_tensorflow
def test_vectors_by_hand(tmp_path):
    path, table = encoder(tmp_path)
    found = bert_vectors(VOCABULARY, path)
    assert found.vectors.shape == (8, 6) and found.vectors.dtype == np.float32
    assert found.found.tolist() == [False] * 4 + [True] * 4
    expected = [
        by_hand(table, pieces)
        for pieces in (["dog"], ["skate", "##board", "##er"], ["skate", "##board"], ["[UNK]"])
    ]
    np.testing.assert_allclose(found.vectors[4:], expected, atol=1e-5)


@needs_tensorflow
def test_models_that_are_no_such_encoder(tmp_path):
    with pytest.raises(DataError, match="cannot be loaded"):
        bert_vectors(VOCABULARY, tmp_path / "absent")
    path, _ = encoder(tmp_path, "inputs", inputs=("ids", "mask", "kinds"))
    with pytest.raises(DataError, match="does not take input_word_ids"):
        bert_vectors(VOCABULARY, path)
    path, _ = encoder(tmp_path, "output", output="tokens")
    with pytest.raises(DataError, match="gives no 'sequence_output', but: .*pooled_output"):
        bert_vectors(VOCABULARY, path)
    path, _ = encoder(tmp_path, "bare", vocabulary=False)
    with pytest.raises(DataError, match="carries no list of word pieces"):
        bert_vectors(VOCABULARY, path)
    assert bert_vectors(VOCABULARY, path, tmp_path / "vocab.txt").vectors.shape == (8, 6)
    with pytest.raises(DataError, match="does not exist"):
        bert_vectors(VOCABULARY, path, tmp_path / "none.txt")
    for content in (b"\xff", b"", b"dog\n"):
        (tmp_path / "odd.txt").write_bytes(content)
        with pytest.raises(DataError, match="odd.txt is no list of word pieces"):
            bert_vectors(VOCABULARY, path, tmp_path / "odd.txt")


# KerasHub ----------------------------------------------------------------------------------------


@pytest.fixture
def keras_hub():
    return pytest.importorskip("keras_hub")


def preset(keras_hub, folder):
    """A BERT of KerasHub with random weights, saved as its presets are."""
    pieces = [*PIECES[:4], "[MASK]", *PIECES[4:]]
    network = keras_hub.models.BertBackbone(
        vocabulary_size=len(pieces), num_layers=1, num_heads=2, hidden_dim=6, intermediate_dim=8,
        max_sequence_length=16,
    )  # fmt: skip
    network.save_to_preset(folder)
    keras_hub.models.BertTokenizer(pieces, lowercase=True).save_to_preset(folder)
    return network, pieces


def test_vectors_of_keras_hub(keras_hub, tmp_path):
    network, pieces = preset(keras_hub, tmp_path)
    found = embedding_vectors(f"keras_bert:{tmp_path}", VOCABULARY, [])
    words = (["dog"], ["skate", "##board", "##er"], ["skate", "##board"], ["[UNK]"])
    for row, inner in zip(found.vectors[4:], words, strict=True):
        # One word alone, without pads.
        ids = np.array([[pieces.index(piece) for piece in ("[CLS]", *inner, "[SEP]")]])
        told = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 1 + 0 * ids}
        outputs = keras.ops.convert_to_numpy(network(told)["sequence_output"])
        np.testing.assert_allclose(row, outputs[0, 1:-1].mean(axis=0), atol=1e-5)


def test_no_preset_and_no_keras_hub(keras_hub, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="absent of KerasHub cannot be loaded as a BERT"):
        keras_bert_vectors(VOCABULARY, tmp_path / "absent")

    def without_its_reader(*arguments, **options):
        raise ModuleNotFoundError("No module named 'safetensors'", name="safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(keras_hub.models.BertBackbone, "from_preset", without_its_reader)
        with pytest.raises(ConfigError, match=r"pip install safetensors\."):
            keras_bert_vectors(VOCABULARY, tmp_path)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ConfigError, match="pip install keras-hub"):
        keras_bert_vectors(VOCABULARY)


def test_words_that_are_nothing_or_very_long(keras_hub, tmp_path):
    preset(keras_hub, tmp_path)
    words = ["dog", "\u200d", "\u4eba" * 600]  # each Chinese character is a piece
    found = keras_bert_vectors(Vocabulary(words), tmp_path)
    assert found.found.tolist() == [False] * 4 + [True, False, True]
    assert np.isfinite(found.vectors).all()
    with pytest.raises(DataError, match="knows a piece of none of the 1 words"):
        keras_bert_vectors(Vocabulary(["\u200d"]), tmp_path)
