"""Decoding against plain loops in Python."""

import functools
import itertools

import numpy as np
import pytest
from captioner_models import FEATURES, LENGTH, NAMES, WORDS, small_decoder
from keras import ops

from common.data.vocabulary import END, PAD, START, UNK
from common.errors import ConfigError
from common.models.captioning import beam_search, decoder, sample
from common.training.backend import compiled_method

FORBIDDEN = [PAD, START, UNK]


def numbers(x):
    return ops.convert_to_numpy(x)


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@functools.cache
def forced(network):
    """Teacher forcing, compiled once."""
    return compiled_method(lambda features, tokens: network(features, tokens), network.variables)


def next_words(network, features, words):
    """log p of the next word after `words`, by teacher forcing; impossible ones at -inf."""
    tokens = np.zeros((1, LENGTH), "int32")
    tokens[0, : len(words) + 1] = [START, *words]
    logits = numbers(forced(network)(features[None], tokens))[0, len(words)].astype("float64")
    logits[FORBIDDEN] = -np.inf
    return log_softmax(logits)


def slow_greedy(network, features, length):
    words, total = [], 0.0
    while len(words) < length and END not in words:
        log_p = next_words(network, features, words)
        words.append(int(log_p.argmax()))
        total += log_p.max()
    return words + [PAD] * (length - len(words)), total


def slow_beam(network, features, length, beams, penalty):
    """One image at a time, lists of words, as a textbook has it."""
    kept = [([], 0.0)]
    for _ in range(length):
        grown = []
        for words, total in kept:
            if END in words:
                grown.append((words, total))
                continue
            log_p = next_words(network, features, words)
            grown += [([*words, w], total + log_p[w]) for w in range(WORDS) if w not in FORBIDDEN]
        grown.sort(key=lambda item: -item[1] / len(item[0]) ** penalty)
        kept = grown[:beams]
    return [(w + [PAD] * (length - len(w)), t / len(w) ** penalty) for w, t in kept]


@pytest.mark.parametrize("name", NAMES)
def test_greedy(name):
    network = small_decoder(name)
    tokens, scores = (numbers(x) for x in sample(network, FEATURES, LENGTH))
    for i, features in enumerate(FEATURES):
        expected, total = slow_greedy(network, features, LENGTH)
        assert tokens[i, 0].tolist() == expected
        assert scores[i, 0] == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_beam(name):
    network = small_decoder(name)
    for penalty in (0.0, 0.7):
        found = beam_search(network, FEATURES, LENGTH, 3, length_penalty=penalty)
        tokens, scores = (numbers(x) for x in found)
        for i, features in enumerate(FEATURES):
            expected = slow_beam(network, features, LENGTH, 3, penalty)
            assert tokens[i].tolist() == [words for words, _ in expected]
            np.testing.assert_allclose(scores[i], [score for _, score in expected], atol=1e-3)


def test_a_beam_of_one_is_greedy():
    network = small_decoder("multi_head")
    greedy, _ = sample(network, FEATURES, LENGTH)
    beam, _ = beam_search(network, FEATURES, LENGTH, 1)
    np.testing.assert_array_equal(numbers(beam), numbers(greedy))


def test_a_beam_as_wide_as_all_finds_the_best():
    network = small_decoder("lstm")
    length, possible = 3, [w for w in range(WORDS) if w not in FORBIDDEN]
    tokens, scores = beam_search(network, FEATURES[:1], length, 64, length_penalty=0.0)
    best = -np.inf
    for words in itertools.product(possible, repeat=length):
        cut = words[: words.index(END) + 1] if END in words else words
        total = sum(next_words(network, FEATURES[0], cut[:t])[cut[t]] for t in range(len(cut)))
        best = max(best, total)
    assert float(scores[0, 0]) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_does_not_change_its_captions(name):
    network = small_decoder(name)
    together, _ = beam_search(network, FEATURES, LENGTH, 3)
    alone, _ = beam_search(network, FEATURES[2:3], LENGTH, 3)
    np.testing.assert_array_equal(numbers(alone)[0], numbers(together)[2])


def test_only_words_and_pads_after_the_end():
    network = small_decoder("rnn")
    uniforms = np.random.default_rng(0).random((4, 50, LENGTH)).astype("float32")
    tokens = numbers(sample(network, FEATURES, LENGTH, uniforms)[0]).reshape(-1, LENGTH)
    assert not np.isin(tokens, [START, UNK]).any()
    ended = np.cumsum(tokens == END, axis=1) - (tokens == END) > 0
    np.testing.assert_array_equal(tokens == PAD, ended)


def test_samples_follow_the_probabilities():
    network = small_decoder("lstm")
    count = 4000
    uniforms = np.random.default_rng(1).random((1, count, 1)).astype("float32")
    tokens, _ = sample(network, FEATURES[:1], 1, uniforms)
    shares = np.bincount(numbers(tokens).ravel(), minlength=WORDS) / count
    np.testing.assert_allclose(shares, np.exp(next_words(network, FEATURES[0], [])), atol=0.03)
    # A low temperature is nearly greedy.
    cold, _ = sample(network, FEATURES[:1], 1, uniforms, temperature=0.01)
    assert set(numbers(cold).ravel()) == {int(next_words(network, FEATURES[0], []).argmax())}


def test_top_p():
    network = small_decoder("lstm")
    p = np.exp(next_words(network, FEATURES[0], []))
    order = np.argsort(-p)
    allowed = order[: int(np.searchsorted(np.cumsum(p[order]), 0.6)) + 1]
    uniforms = np.random.default_rng(1).random((1, 2000, 1)).astype("float32")
    tokens, _ = sample(network, FEATURES[:1], 1, uniforms, top_p=0.6)
    shares = np.bincount(numbers(tokens).ravel(), minlength=WORDS) / 2000
    assert set(np.flatnonzero(shares)) == set(allowed)
    np.testing.assert_allclose(shares[allowed], p[allowed] / p[allowed].sum(), atol=0.04)


def test_top_p_takes_no_word_more_than_it_needs():
    """Two words share all probability: half of it is one of them."""
    network = small_decoder("rnn")
    network.set_weights([w * 0 for w in network.get_weights()])
    bias = np.full(WORDS, -40.0)
    bias[[5, 6]] = 0
    network.embedding.bias.assign(bias)
    uniforms = np.linspace(0, 1, 50, endpoint=False, dtype="float32").reshape(1, -1, 1)
    drawn = {p: sample(network, FEATURES[:1], 1, uniforms, top_p=p)[0] for p in (0.5, 0.6)}
    assert len(set(numbers(drawn[0.5]).ravel())) == 1
    assert set(numbers(drawn[0.6]).ravel()) == {5, 6}


def trigrams(tokens):
    words = [w for w in tokens if w not in (PAD, END)]
    return list(zip(words, words[1:], words[2:], strict=False))


def test_no_trigram_twice():
    network = small_decoder("rnn", max_length=30)
    # Weights that make it say the same again and again.
    network.set_weights([w * 0 for w in network.get_weights()])
    bias = np.zeros(WORDS)
    bias[[5, 6, END]] = 9, 8.9, 1
    network.embedding.bias.assign(bias)
    plain, _ = sample(network, FEATURES, 29)
    assert len(set(trigrams(numbers(plain)[0, 0]))) == 1
    for found, _ in (
        sample(network, FEATURES, 29, no_repeated_trigram=True),
        beam_search(network, FEATURES, 29, 3, no_repeated_trigram=True),
    ):
        for row in numbers(found).reshape(-1, 29):
            assert len(trigrams(row)) == len(set(trigrams(row)))


def test_a_high_length_penalty_makes_captions_longer():
    network = small_decoder("multi_head", seed=3)
    network.embedding.bias.assign(np.eye(WORDS)[END] * 3)  # so that some captions end early
    lengths = []
    for penalty in (0.0, 2.0):
        tokens, _ = beam_search(network, FEATURES, LENGTH, 3, length_penalty=penalty)
        lengths.append((numbers(tokens)[:, 0] != PAD).sum())
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (sample, {"length": 0}, f"length=0 is out of range: 1 to {LENGTH}"),
        (sample, {"length": LENGTH + 1}, "length=.* the decoder's max_length"),
        (beam_search, {"length": 2.5}, "length=2.5"),
        (sample, {"temperature": 0.0}, "temperature=0.0 is out of range: above 0"),
        (sample, {"temperature": float("nan")}, "temperature=nan"),
        (sample, {"top_p": 0.0}, "top_p=0.0 is out of range: above 0 and at most 1"),
        (sample, {"top_p": 1.5}, "top_p=1.5"),
        (sample, {"uniforms": np.zeros((1, 2, 2))}, r"uniforms must be \(images, captions, 4\)"),
        (beam_search, {"beams": 0}, "beams=0"),
        (beam_search, {"beams": WORDS - 2, "length": 1}, f"beams={WORDS - 2}.*possible captions"),
        (beam_search, {"length_penalty": float("inf")}, "length_penalty=inf"),
        (sample, {"features": FEATURES[0]}, r"features must be \(images, regions, channels\)"),
    ],
)
def test_values_out_of_range_are_told(write, options, message):
    options = {"features": FEATURES, "length": 4} | options
    with pytest.raises(ConfigError, match=message):
        write(small_decoder("rnn"), **options)


def test_a_decoder_without_weights_is_told():
    with pytest.raises(ConfigError, match="'rnn' has no weights yet: build it"):
        sample(decoder("rnn", WORDS, width=4), FEATURES, 4)


@pytest.mark.parametrize("length", [1, 2])
def test_no_trigram_twice_in_captions_too_short_for_one(length):
    network = small_decoder("rnn")
    wanted, _ = sample(network, FEATURES, length)
    found, _ = sample(network, FEATURES, length, no_repeated_trigram=True)
    np.testing.assert_array_equal(found, wanted)
