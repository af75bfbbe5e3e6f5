"""The five decoders against a forward pass in NumPy, written from their formulas, in float64."""

import keras
import numpy as np
import pytest
from captioner_models import FEATURES, LENGTH, NAMES, SOME_HIDDEN, random_tokens, small_decoder
from keras import ops
from scipy.special import erf, log_softmax, softmax

from common.data.vocabulary import END, PAD, START, UNK
from common.models.captioning import sample


class ByHand:
    """Logits and attention (words, blocks, heads, regions) of one image and one caption.

    `values` are the weights by their path. Of an image with hidden regions the others alone exist.
    """

    def __init__(self, network, values=None):
        self.network = network
        self.values = values or numbers_of(network)

    def __getitem__(self, weight):
        return self.values[weight.path]

    def dense(self, layer, x):
        return x @ self[layer.kernel] + (self[layer.bias] if layer.use_bias else 0)

    def norm(self, layer, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + layer.epsilon)
        return scaled * self[layer.gamma] + self[layer.beta]

    def __call__(self, features, tokens, seen=slice(None)):
        net = self.network
        table = self[net.embedding.embeddings]
        words = table[tokens] * np.sqrt(net.width)
        regions = self.norm(net.regions_norm, self.dense(net.regions, features))
        if net.has_places:
            regions = regions + self[net.places]
        run = self.attend if hasattr(net, "blocks") else self.recur
        outputs, attention = run(words, regions[seen])
        return outputs @ table.T + self[net.embedding.bias], attention

    def recur(self, words, regions):
        net, cell = self.network, self.network.cell
        first = np.tanh(self.dense(net.first_state, regions.mean(axis=0)))
        h, c = np.split(first, 2) if net.states == 2 else (first, None)
        outputs, attention = [], []
        for word in words:
            gates = word @ self[cell.kernel] + self[cell.bias] + h @ self[cell.recurrent_kernel]
            deep = 0
            if hasattr(net, "attention"):
                look = net.attention
                keys = regions @ self[look.key_kernel]
                compared = np.tanh(h @ self[look.query_kernel] + self[look.bias] + keys)
                weights = softmax((compared @ self[look.score_kernel])[:, 0])
                context = weights @ regions * sigmoid(self.dense(net.gate, h))
                gates = gates + self.dense(net.context_input, context)
                deep = self.dense(net.word_output, word) + self.dense(net.context_output, context)
                attention.append(weights)
            if c is None:
                h = np.tanh(gates)
            else:
                i, f, g, o = np.split(gates, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            outputs.append(self.dense(net.output_words, h) + deep)
        return np.stack(outputs), np.stack(attention)[:, None, None] if attention else None

    def attend(self, words, regions):
        x = words + self[self.network.positions.positions][: len(words)]
        causal = np.tril(np.ones((len(words), len(words)), bool))
        looked = []
        for block in self.network.blocks:
            normed = self.norm(block.norms[0], x)
            x = x + self.look(block.self_attention, normed, normed, causal)[0]
            seen, weights = self.look(block.image_attention, self.norm(block.norms[1], x), regions)
            x = x + seen
            looked.append(weights)
            wide = self.dense(block.widen, self.norm(block.norms[2], x))
            x = x + self.dense(block.narrow, wide * (1 + erf(wide / np.sqrt(2))) / 2)
        return self.norm(self.network.norm, x), np.stack(looked).transpose(2, 0, 1, 3)

    def look(self, layer, query, value, allowed=True):
        def heads(x, name):
            x = x @ self[getattr(layer, f"{name}_kernel")] + self[getattr(layer, f"{name}_bias")]
            return x.reshape(len(x), layer.num_heads, -1).transpose(1, 0, 2)

        q, k, v = heads(query, "query"), heads(value, "key"), heads(value, "value")
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(layer.key_dim)
        weights = softmax(np.where(allowed, scores, -np.inf), axis=-1)
        joined = (weights @ v).transpose(1, 0, 2).reshape(len(query), -1)
        return joined @ self[layer.output_kernel] + self[layer.output_bias], weights


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numbers_of(network):
    return {w.path: ops.convert_to_numpy(w).astype("float64") for w in network.weights}


@pytest.mark.parametrize("mask", [None, SOME_HIDDEN], ids=["all seen", "some hidden"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_attention(name, mask):
    network, tokens = small_decoder(name), random_tokens(len(FEATURES), 2)
    logits, attention = network(FEATURES, tokens, return_attention=True, region_mask=mask)
    by_hand = ByHand(network)
    for image, seen in enumerate(np.ones_like(SOME_HIDDEN) if mask is None else mask):
        for caption in range(2):
            wanted, weights = by_hand(FEATURES[image], tokens[image, caption], seen)
            np.testing.assert_allclose(logits[image, caption], wanted, atol=2e-4)
            if weights is None:
                assert attention is None
                continue
            looked = ops.convert_to_numpy(attention)[image, caption]
            np.testing.assert_allclose(looked[..., seen], weights, atol=1e-5)
            assert not looked[..., ~seen].any()


@pytest.mark.parametrize("name", NAMES)
def test_whole_captions(name):
    network = small_decoder(name)
    found, scores = (ops.convert_to_numpy(x) for x in sample(network, FEATURES, LENGTH - 1))
    by_hand = ByHand(network)
    for image in range(len(FEATURES)):
        tokens, total = [START], 0.0
        while len(tokens) < LENGTH and END not in tokens:
            logits, _ = by_hand(FEATURES[image], np.array(tokens))
            logits[-1, [PAD, START, UNK]] = -np.inf
            total += log_softmax(logits[-1]).max()
            tokens.append(int(logits[-1].argmax()))
        np.testing.assert_array_equal(found[image, 0, : len(tokens) - 1], tokens[1:])
        assert scores[image, 0] == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    """Along a random line through all weights, by small steps to either side."""
    network, tokens = small_decoder(name, dropout=0.0), random_tokens(len(FEATURES))
    rng = np.random.default_rng(3)
    values = numbers_of(network)
    line = {path: rng.standard_normal(value.shape) for path, value in values.items()}

    def loss(step):
        by_hand = ByHand(network, {path: values[path] + step * line[path] for path in values})
        chosen = [
            log_softmax(by_hand(image, words)[0][:-1], axis=-1)[np.arange(LENGTH - 1), words[1:]]
            for image, words in zip(FEATURES, tokens, strict=True)
        ]
        return -np.mean(chosen)

    wanted = (loss(1e-5) - loss(-1e-5)) / 2e-5
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(1.0), cross_entropy, jit_compile=False)
    counted = np.repeat(np.arange(LENGTH)[None] < LENGTH - 1, len(FEATURES), axis=0)
    network.train_on_batch(
        {"features": FEATURES, "tokens": tokens},
        np.roll(tokens, -1, axis=1),
        sample_weight=counted.astype("float32"),
    )
    after = numbers_of(network)
    found = sum(((values[path] - after[path]) * line[path]).sum() for path in values)
    assert found * LENGTH / (LENGTH - 1) == pytest.approx(wanted, rel=2e-3)
