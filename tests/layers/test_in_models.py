"""Every public layer where people put layers: functional models, saved, exported, elsewhere."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

import common.layers as L

RNG = np.random.default_rng(0)
IMAGES, SEQUENCE = (None, None, 3), (None, 6)
BATCH = [IMAGES, (3,), (), ()]  # images, targets, index, epoch
STD = (0.2, 0.2, 0.2)


def tied(tokens):
    embedding = L.TiedEmbedding(9, 4, name="tied")
    return embedding(keras.layers.Dense(4)(embedding(tokens)), reverse=True)


def in_time(images):
    frames = keras.layers.Reshape((2, 8, 4, 3))(images)
    return keras.layers.TimeDistributed(L.BasicBlock(4, stride=2))(frames)


# From inputs to outputs, and the inputs: shapes with `None` where a size may be left open.
MODELS = {
    "AlternatingFlip": (L.AlternatingFlip(), BATCH),
    "AreaResize": (L.AreaResize(6), [IMAGES]),
    "BahdanauAttention": (L.BahdanauAttention(4), [SEQUENCE, (None, 5)]),
    "BasicBlock": (L.BasicBlock(4, stride=2, squeeze_excitation=2), [IMAGES]),
    "BottleneckBlock": (L.BottleneckBlock(4, shortcut="B", preactivation=True), [IMAGES]),
    "LSTM": (L.LSTM(4, return_sequences=True), [SEQUENCE]),
    "LSTMCell": (keras.layers.RNN(L.LSTMCell(4)), [SEQUENCE]),
    "two cells": (keras.layers.RNN([L.LSTMCell(4), L.SimpleRNNCell(3)]), [SEQUENCE]),
    "both ways": (keras.layers.Bidirectional(L.LSTM(4, return_sequences=True)), [SEQUENCE]),
    "MixUp": (L.MixUp(), BATCH),
    "MultiHeadAttention": (L.MultiHeadAttention(2, 4), [SEQUENCE, (None, 5)]),
    "with its weights": (
        lambda q, v: L.MultiHeadAttention(2, 4)(q, v, return_attention_scores=True),
        [SEQUENCE, (None, 5)],
    ),
    "causal": (lambda x: L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True), [SEQUENCE]),
    "PatchWhitening": (L.PatchWhitening(), [IMAGES]),
    "PixelRange": (L.PixelRange("caffe"), [IMAGES]),
    "PixelScaling": (L.PixelScaling(STD, STD), [IMAGES]),
    "PooledTransition": (L.PooledTransition(4), [IMAGES]),
    "PositionEmbedding": (L.PositionEmbedding(9), [SEQUENCE]),
    "RandomColour": (L.RandomColour(seed=1), [IMAGES]),
    "RandomCutout": (L.RandomCutout(2, seed=1), [IMAGES]),
    "RandomFlip": (L.RandomFlip(seed=1), [IMAGES]),
    "RandomShift": (L.RandomShift(2, seed=1), [IMAGES]),
    "RandomStain": (L.RandomStain(STD, STD, seed=1), [IMAGES]),
    "RandomSymmetry": (L.RandomSymmetry(seed=1), [IMAGES]),
    "SimpleRNN": (L.SimpleRNN(4), [SEQUENCE]),
    "SingleConvBlock": (L.SingleConvBlock(4, activation="gelu_tanh"), [IMAGES]),
    "SqueezeExcitation": (L.SqueezeExcitation(1), [IMAGES]),
    "in time": (in_time, [(8, 8, 3)]),
    "TiedEmbedding": (tied, [(None,)]),
}


def test_every_public_layer_is_here():
    public = {name for name, value in vars(L).items() if isinstance(value, type)}
    public = {name for name in public if issubclass(getattr(L, name), keras.Layer)}
    assert public - {"RandomAugmentation", "ResidualBlock", "SimpleRNNCell"} <= set(MODELS)
    assert "SimpleRNNCell" in public  # stands in "two cells"; the other two are bases


# A batch transform acts whenever it is called: the wrapper calls it in training only.
STEADY = [name for name in MODELS if name != "MixUp"]


def dtype_of(name, number):
    if name == "TiedEmbedding" or number > 1:
        return "int32"
    return "float32"


def model_of(name, open_sizes=True):
    """A functional model of the layer, made anew."""
    layer, shapes = MODELS[name]
    if isinstance(layer, keras.Layer):
        layer = type(layer).from_config(layer.get_config())
    inputs = [
        keras.Input(shape if open_sizes else closed(shape), dtype=dtype_of(name, number))
        for number, shape in enumerate(shapes)
    ]
    return keras.Model(inputs, layer(*inputs), name="model")


def closed(shape, side=8, time=5):
    return tuple((side if len(shape) == 3 else time) if size is None else size for size in shape)


def data_for(name, **sizes):
    values = []
    for number, shape in enumerate(MODELS[name][1]):
        shape = (4, *closed(shape, **sizes))
        if dtype_of(name, number) == "int32":
            values.append(RNG.integers(0, 9, shape).astype("int32"))
        else:
            values.append(RNG.standard_normal(shape).astype("float32"))
    return values


def predicted(model, values):
    return [np.asarray(part) for part in keras.tree.flatten(model.predict(values, verbose=0))]


@pytest.mark.parametrize("name", MODELS)
def test_in_a_functional_model_with_open_sizes(name):
    model = model_of(name)
    small, large = data_for(name), data_for(name, side=12, time=7)
    if name == "in time":
        large = small
    for values in (small, large):
        found = predicted(model, values)
        layer, _ = MODELS[name]
        for symbolic, part in zip(model.outputs, found, strict=True):
            assert symbolic.dtype == str(part.dtype)
            pairs = zip(symbolic.shape, part.shape, strict=True)
            assert all(wanted in (None, size) for wanted, size in pairs), (symbolic, part.shape)


def everything(names=STEADY):
    """All of them in one model: an input and an output after the other."""
    models = [model_of(name) for name in names]
    inputs = [part for model in models for part in model.inputs]
    return keras.Model(inputs, [part for model in models for part in model.outputs])


def data_for_everything(names=STEADY, **sizes):
    return [
        value for name in names for value in data_for(name, **({} if name == "in time" else sizes))
    ]


def test_every_weight_learns_in_float16():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = everything(MODELS)
    finally:
        keras.config.set_dtype_policy("float32")
    values = data_for_everything(MODELS)
    first = model(values)
    for symbolic, part in zip(model.outputs, first, strict=True):
        assert symbolic.dtype == keras.backend.standardize_dtype(part.dtype), symbolic.name
    before = [np.array(weight) for weight in model.trainable_variables]
    targets = [RNG.standard_normal(part.shape) for part in first]
    model.compile("sgd", ["mse"] * len(targets))
    history = model.fit(values, targets, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, old in zip(model.trainable_variables, before, strict=True):
        # A key's bias moves all scores of a query alike, and the softmax forgets it.
        assert weight.name == "key_bias" or (np.array(weight) != old).any(), weight.path


ALONE = [
    name
    for name, (layer, given) in MODELS.items()
    if isinstance(layer, keras.Layer) and len(given) == 1
]


@pytest.mark.parametrize("name", ALONE)
def test_in_sequential_and_in_a_subclass(name):
    layer, (shape,) = MODELS[name]
    [values] = data_for(name)

    class Subclass(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = type(layer).from_config(layer.get_config())

        def call(self, x, training=False):
            return self.inner(x)

    sequential = keras.Sequential([keras.Input(shape), type(layer).from_config(layer.get_config())])
    subclass = Subclass()
    subclass(values)
    subclass.set_weights(sequential.get_weights())
    assert len(subclass.trainable_variables) == len(sequential.trainable_variables)
    for one, other in zip(predicted(sequential, values), predicted(subclass, values), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    if sequential.trainable_variables:
        before = [np.array(weight) for weight in subclass.trainable_variables]
        subclass.compile("sgd", "mse")
        targets = RNG.standard_normal(predicted(subclass, values)[0].shape)
        subclass.fit(values, targets, verbose=0)
        moved = zip(subclass.trainable_variables, before, strict=True)
        assert any((np.array(weight) != old).any() for weight, old in moved)


OTHERS = [
    name
    for name in ("tensorflow", "jax", "torch")
    if name != keras.backend.backend() and find_spec(name)
]
LOADING = """
import sys
import keras, numpy as np
import common.layers
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
with np.load(sys.argv[1] + "/values.npz") as file:
    given = [file[f"given{i}"] for i in range(len(model.inputs))]
    for i, part in enumerate(model.predict(given, verbose=0)):
        name = model.outputs[i].name
        np.testing.assert_allclose(part, file[f"found{i}"], atol=2e-5, err_msg=name)
"""


@pytest.mark.parametrize("backend", [keras.backend.backend(), *OTHERS])
def test_saved_and_loaded_in_a_fresh_process(backend, tmp_path):
    model, values = everything(), data_for_everything()
    model.save(tmp_path / "model.keras")
    parts = {f"given{i}": value for i, value in enumerate(values)}
    parts |= {f"found{i}": value for i, value in enumerate(predicted(model, values))}
    np.savez(tmp_path / "values.npz", **parts)
    environment = os.environ | {"KERAS_BACKEND": backend}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", LOADING, str(tmp_path)]
    subprocess.run(command, cwd=root, env=environment, check=True)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
def test_exported_with_open_sizes(tmp_path):
    import tensorflow as tf

    model, values = everything(), data_for_everything(side=12, time=7)
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    found, wanted = loaded.serve(values), predicted(model, values)
    for part, right, output in zip(found, wanted, model.outputs, strict=True):
        np.testing.assert_allclose(part, right, atol=2e-5, err_msg=output.name)
