"""What all five decoders must do, with random weights in float32."""

import itertools
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from captioner_models import (
    CHANNELS,
    FEATURES,
    LENGTH,
    NAMES,
    REGIONS,
    SOME_HIDDEN,
    WITH_ATTENTION,
    WORDS,
    random_tokens,
    small_decoder,
)
from keras import ops

from common.errors import ConfigError
from common.models.captioning import (
    DecoderBlock,
    SelfAttentionDecoder,
    beam_search,
    decoder,
    sample,
)
from common.training.backend import dtype_policy


def numbers(x):
    return ops.convert_to_numpy(x)


def forced(network, tokens, features=FEATURES):
    return numbers(network(features, tokens))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("captions", "mask"), [(1, None), (3, None), (3, SOME_HIDDEN)])
def test_step_equals_teacher_forcing(name, captions, mask):
    network = small_decoder(name)
    tokens = random_tokens(len(FEATURES), captions)
    logits, attention = network(FEATURES, tokens, return_attention=True, region_mask=mask)
    rows = len(FEATURES) * captions
    logits = numbers(logits).reshape(rows, LENGTH, WORDS)
    state = network.start(FEATURES, captions, mask)
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), state)
    for t in range(LENGTH):
        word = ops.convert_to_tensor(tokens.reshape(rows, LENGTH)[:, t])
        found, state, looked = network.step(word, state)
        np.testing.assert_allclose(found, logits[:, t], atol=1e-4)
        if attention is None:
            assert looked is None
        else:
            expected = numbers(attention).reshape(rows, LENGTH, *attention.shape[3:])[:, t]
            np.testing.assert_allclose(looked, expected, atol=1e-5)
    assert keras.tree.map_structure(lambda x: tuple(x.shape), state) == shapes


@pytest.mark.parametrize("embedding", [{}, {"vector_dim": 3, "vector_mode": "projected"}])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_looks_ahead(name, embedding):
    """With words of any origin: vectors from elsewhere are of single words, too."""
    network = small_decoder(name, **embedding)
    tokens = random_tokens(len(FEATURES))
    before = forced(network, tokens)
    for t in (1, 4, LENGTH - 1):
        changed = tokens.copy()
        changed[:, t] = 4 + (tokens[:, t] - 3) % (WORDS - 4)
        after = forced(network, changed)
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t] - before[:, t]).max(axis=-1) > 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_pads_change_nothing(name):
    network = small_decoder(name)
    tokens = random_tokens(len(FEATURES))
    padded = tokens.copy()
    padded[:, 5:] = 0
    short = forced(network, tokens[:, :5])
    np.testing.assert_allclose(forced(network, padded)[:, :5], short, atol=1e-5)
    # Neither do captions of pads only, as images with fewer captions have, nor other images.
    several = np.stack([tokens, np.zeros_like(tokens)], axis=1)
    np.testing.assert_allclose(forced(network, several)[:, 0], forced(network, tokens), atol=1e-5)
    alone = forced(network, tokens[:1], FEATURES[:1])
    np.testing.assert_allclose(forced(network, tokens)[:1], alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_rung_sees_the_image(name):
    network = small_decoder(name)
    tokens = random_tokens(len(FEATURES))
    change = np.abs(forced(network, tokens, FEATURES[::-1]) - forced(network, tokens))
    assert (change.max(axis=(0, 2)) > 1e-3).all()


@pytest.mark.parametrize("captions", [None, 2])
@pytest.mark.parametrize(
    "name, arguments, blocks, heads",
    [
        ("attention_lstm", {}, 1, 1),
        ("self_attention", {"num_blocks": 3}, 3, 1),
        *(
            ("multi_head", {"width": 12, "num_blocks": blocks, "num_heads": heads}, blocks, heads)
            for blocks, heads in ((1, 2), (1, 4), (2, 3), (3, 1), (3, 4))
        ),
    ],
)
def test_attention_of_each_block_and_head(name, arguments, blocks, heads, captions):
    network, tokens = small_decoder(name, **arguments), random_tokens(4, captions)
    _, attention = network(FEATURES, tokens, return_attention=True)
    attention = numbers(attention)
    assert attention.shape == (*tokens.shape, blocks, heads, REGIONS)
    assert (attention >= 0).all()
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)
    # No two of them are alike: the weights are random.
    each = np.moveaxis(attention, (-3, -2), (0, 1)).reshape(blocks * heads, -1)
    for one, other in itertools.combinations(each, 2):
        assert np.abs(one - other).max() > 1e-2
    state = network.start(FEATURES, captions or 1)
    for t in range(LENGTH):
        word = ops.convert_to_tensor(tokens[..., t].reshape(-1))
        _, state, looked = network.step(word, state)
        assert looked.shape == (tokens[..., t].size, blocks, heads, REGIONS)
        wanted = attention[..., t, :, :, :].reshape(looked.shape)
        np.testing.assert_allclose(looked, wanted, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_regions_matters_to_attention_only(name):
    network = small_decoder(name)
    tokens, order = random_tokens(4), np.array([3, 1, 5, 0, 4, 2])
    moved = forced(network, tokens, FEATURES[:, order])
    same = np.allclose(moved, forced(network, tokens), atol=1e-4)
    assert same == (name not in WITH_ATTENTION)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_in_training_only(name):
    network = small_decoder(name, dropout=0.5)
    tokens = random_tokens(4)
    np.testing.assert_array_equal(forced(network, tokens), forced(network, tokens))
    trained = numbers(network(FEATURES, tokens, training=True))
    assert np.abs(trained - forced(network, tokens)).max() > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded(name, tmp_path):
    network = small_decoder(name, region_dropout=0.25)
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == network.get_config()
    tokens = random_tokens(4)
    np.testing.assert_array_equal(forced(loaded, tokens), forced(network, tokens))


FRESH = """
import sys
import keras
import numpy as np
import common.models.captioning
from common.models.captioning import beam_search
folder = sys.argv[1]
features = np.load(folder + "/features.npy")
for name in sys.argv[2:]:
    loaded = keras.saving.load_model(f"{folder}/{name}.keras")
    tokens, _ = beam_search(loaded, features, loaded.max_length, 3)
    np.save(f"{folder}/{name}.npy", keras.ops.convert_to_numpy(tokens))
"""


def test_same_captions_in_a_fresh_process(tmp_path):
    np.save(tmp_path / "features.npy", FEATURES)
    networks = {name: small_decoder(name) for name in NAMES}
    for name, network in networks.items():
        network.save(tmp_path / f"{name}.keras")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FRESH, str(tmp_path), *NAMES]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    for name, network in networks.items():
        here, _ = beam_search(network, FEATURES, LENGTH, 3)
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), numbers(here))


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_half_precision(name):
    with dtype_policy("mixed_bfloat16"):
        network = small_decoder(name)
    full = forced(small_decoder(name), random_tokens(4))
    found = network(FEATURES, random_tokens(4))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert np.abs(numbers(found) - full).mean() < 0.05 * np.abs(full).mean() + 0.05
    tokens, _ = sample(network, FEATURES, LENGTH)
    assert tokens.shape == (4, 1, LENGTH)


def test_one_head_and_many_have_the_same_weights():
    shapes = [
        [tuple(w.shape) for w in small_decoder(name).weights]
        for name in ("self_attention", "multi_head")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NAMES)
def test_regions_hidden_in_training(name):
    """As those of a mask that is handed over, a share of them, others at each step."""
    network, tokens = small_decoder(name, region_dropout=0.5, dropout=0.0), random_tokens(40)
    many = np.tile(FEATURES, (10, 1, 1))
    state = network.hide_regions.seed_generator.state
    before = np.array(numbers(state))
    trained = numbers(network(many, tokens, training=True))
    state.assign(before)
    mask = numbers(network.encode(many, training=True)["region_mask"])
    assert 0.4 < mask.mean() < 0.6
    np.testing.assert_allclose(trained, network(many, tokens, region_mask=mask), atol=1e-5)
    other = numbers(network.encode(many, training=True)["region_mask"])
    assert (mask != other).any()
    # What a mask hides that is handed over is not seen either, but where nothing would be left.
    given = np.tile(SOME_HIDDEN, (10, 1))
    both = numbers(network.encode(many, training=True, region_mask=given)["region_mask"])
    left = both[~both.all(axis=1)]
    assert not (left & ~given[~both.all(axis=1)]).any() and (both != given).any()
    assert "region_mask" not in network.encode(many)


@pytest.mark.parametrize("name", NAMES)
def test_where_all_regions_are_hidden_none_is(name):
    network, tokens = small_decoder(name), random_tokens(4)
    mask = np.repeat([[False], [True]], [1, 3], axis=0) & SOME_HIDDEN
    wanted = forced(network, tokens)[0]
    found = numbers(network({"features": FEATURES, "tokens": tokens, "region_mask": mask}))
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)
    assert np.abs(found[1] - forced(network, tokens)[1]).max() > 1e-3


def test_block_alone():
    block = DecoderBlock(2)
    x, regions = np.ones((2, 3, 8), "float32"), np.ones((2, 5, 8), "float32")
    block.build(x.shape, regions.shape)
    output, weights = block(x, regions)
    assert output.shape == (2, 3, 8) and weights.shape == (2, 2, 3, 5)
    again = DecoderBlock.from_config(block.get_config())
    assert again.num_heads == 2


def test_symbolic_outputs_of_a_block_are_as_the_real_ones():
    block = DecoderBlock(2, dtype="mixed_float16")
    inputs = keras.Input((3, 8), dtype="float16"), keras.Input((5, 8), dtype="float16")
    model = keras.Model(inputs, block(*inputs))
    real = model([np.ones((2, *x.shape[1:]), "float16") for x in inputs])
    for symbolic, part in zip(model.outputs, real, strict=True):
        assert symbolic.dtype == keras.backend.standardize_dtype(part.dtype)
    assert [x.dtype for x in model.outputs] == ["float16", "float32"]


@pytest.mark.parametrize("name", NAMES)
def test_region_masks_are_bool(name):
    network, tokens = small_decoder(name), random_tokens(4)
    hidden = np.where(SOME_HIDDEN, 0.0, -1e9).astype("float32")
    hidden = np.broadcast_to(hidden, FEATURES.shape[:2])
    with pytest.raises(ValueError, match="`region_mask` must be bool"):
        network({"features": FEATURES, "tokens": tokens, "region_mask": hidden})


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_decoder_stays_frozen(name, tmp_path):
    network = small_decoder(name)
    network.trainable = False
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.trainable and not loaded.trainable_variables


def test_one_block_without_feed_forward():
    """As one with it that adds nothing; it steps as it is taught, and is saved so."""
    whole = small_decoder("self_attention", num_blocks=1)
    narrow = whole.blocks[0].narrow
    narrow.set_weights([np.zeros_like(w) for w in narrow.get_weights()])
    network = small_decoder("self_attention", num_blocks=1, feed_forward=False)
    of_whole = {w.path: w for w in whole.weights}
    for weight in network.weights:
        weight.assign(of_whole[weight.path])
    # A norm, and two matrices with biases, between 8 and 32 numbers.
    assert whole.count_params() - network.count_params() == 16 + 288 + 264
    tokens = random_tokens(len(FEATURES))
    logits = forced(network, tokens)
    np.testing.assert_allclose(logits, forced(whole, tokens), atol=1e-5)
    state = network.start(FEATURES)
    for t in range(LENGTH):
        found, state, _ = network.step(ops.convert_to_tensor(tokens[:, t]), state)
        np.testing.assert_allclose(found, logits[:, t], atol=1e-4)
    again = SelfAttentionDecoder.from_config(network.get_config())
    assert [block.feed_forward for block in again.blocks] == [False]
    before = {k: v for k, v in whole.get_config().items() if k != "feed_forward"}
    assert SelfAttentionDecoder.from_config(before).blocks[0].feed_forward


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("gru", {}, "decoder='gru' is unknown. Choose one of"),
        ("lstm", {"heads": 3}, "'lstm' cannot be made"),
        ("multi_head", {"width": 10, "num_heads": 4}, "`width` must be a multiple"),
        ("lstm", {"units": 0}, "`units` must be at least 1"),
    ],
)
def test_wrong_names_and_arguments(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        decoder(name, WORDS, **arguments)


def test_caption_longer_than_the_decoder_allows():
    network = SelfAttentionDecoder(WORDS, width=8, max_length=4)
    with pytest.raises(ValueError, match="9 positions from 0 on, but `length` allows 4"):
        network.build((None, REGIONS, CHANNELS))
        network(FEATURES, random_tokens(4))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_in_a_dict_or_a_list(name):
    network, tokens = small_decoder(name), random_tokens(4, 2)
    wanted = forced(network, tokens)
    np.testing.assert_allclose(network({"tokens": tokens, "features": FEATURES}), wanted, atol=1e-6)
    np.testing.assert_allclose(network([FEATURES, tokens]), wanted, atol=1e-6)
    fresh = type(network).from_config(network.get_config())
    assert fresh({"features": FEATURES, "tokens": tokens}).shape == wanted.shape  # built by a call
    found = network.predict({"features": FEATURES, "tokens": tokens}, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"Wanted features \(B, N, channels\)"):
        network({"features": FEATURES[0], "tokens": tokens})


@pytest.mark.parametrize("name", NAMES)
def test_fit_and_evaluate_of_keras(name):
    network, tokens = small_decoder(name), random_tokens(4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.05), loss)
    inputs, targets = {"features": FEATURES, "tokens": tokens}, np.roll(tokens, -1, axis=1)
    before = network.evaluate(inputs, targets, verbose=0)
    network.fit(inputs, targets, epochs=5, verbose=0)
    assert network.evaluate(inputs, targets, verbose=0) < before


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
@pytest.mark.parametrize("name", NAMES)
def test_exported_with_open_time_and_batch(name, tmp_path):
    import tensorflow as tf

    network = small_decoder(name)
    signature = {
        "features": keras.InputSpec(shape=(None, REGIONS, CHANNELS), dtype="float32"),
        "tokens": keras.InputSpec(shape=(None, None), dtype="int32"),
    }
    network.export(tmp_path, input_signature=[signature], verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    for rows, time in ((4, LENGTH), (2, 5)):
        tokens = random_tokens(rows)[:, :time]
        found = loaded.serve({"features": FEATURES[:rows], "tokens": tokens})
        np.testing.assert_allclose(found, forced(network, tokens, FEATURES[:rows]), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("name", NAMES)
def test_exported_to_litert(name, tmp_path):
    """LiteRT's own operations have no loop that collects: recurrent decoders unroll the words."""
    import tensorflow as tf

    network, tokens = small_decoder(name), random_tokens(3)
    time = None if name in ("self_attention", "multi_head") else LENGTH
    signature = {
        "features": keras.InputSpec(shape=(None, REGIONS, CHANNELS), dtype="float32"),
        "tokens": keras.InputSpec(shape=(None, time), dtype="int32"),
    }
    path = str(tmp_path / "decoder.tflite")
    network.export(path, format="litert", input_signature=[signature], verbose=False)
    run = tf.lite.Interpreter(path).get_signature_runner()
    (found,) = run(args_0=FEATURES[:3], args_0_1=tokens).values()
    np.testing.assert_allclose(found, forced(network, tokens, FEATURES[:3]), atol=1e-5)


def gelu_by_erf(x):
    return 0.5 * x * (1 + keras.ops.erf(x / 2**0.5))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
@pytest.mark.parametrize("name", NAMES)
def test_exported_to_onnx(name, tmp_path):
    """As for LiteRT: tf2onnx does not turn TensorFlow's loop that collects into ONNX's."""
    pytest.importorskip("tf2onnx")  # not among the course's packages
    runtime = pytest.importorskip("onnxruntime")

    network = small_decoder(name)
    time = None if name in ("self_attention", "multi_head") else LENGTH
    signature = {
        "features": keras.InputSpec(shape=(None, REGIONS, CHANNELS), dtype="float32"),
        "tokens": keras.InputSpec(shape=(None, time), dtype="int32"),
    }
    for layer in network._flatten_layers():
        if layer.name == "widen":
            layer.activation = gelu_by_erf
    path = str(tmp_path / "decoder.onnx")
    network.export(path, format="onnx", input_signature=[signature], verbose=False)
    session = runtime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]
    for rows, words in ((4, LENGTH), (2, time and LENGTH or 5)):
        tokens = random_tokens(rows)[:, :words]
        (found,) = session.run(None, dict(zip(names, (FEATURES[:rows], tokens), strict=True)))
        np.testing.assert_allclose(found, forced(network, tokens, FEATURES[:rows]), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_precision_and_what_is_frozen_survive_saving(name, tmp_path):
    network = small_decoder(name, dtype="mixed_bfloat16")
    for layer in network._flatten_layers():
        assert layer.dtype_policy.name == "mixed_bfloat16", layer.path
    learned = len(network.trainable_variables)
    network.embedding.trainable = network.regions.trainable = False
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    assert len(loaded.trainable_variables) == len(network.trainable_variables) == learned - 4
    tokens = random_tokens(4)
    np.testing.assert_array_equal(forced(loaded, tokens), forced(network, tokens))
