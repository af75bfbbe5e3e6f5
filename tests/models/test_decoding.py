"""Decoding against plain loops in Python."""

import functools
import itertools

import numpy as np
import pytest
from captioner_models import (
    CHANNELS,
    FEATURES,
    LENGTH,
    NAMES,
    REGIONS,
    SOME_HIDDEN,
    WORDS,
    small_decoder,
)
from keras import ops

from common.data.vocabulary import END, IMPOSSIBLE, PAD, START, UNK
from common.errors import ConfigError
from common.models.captioning import beam_search, decoder, sample
from common.training.backend import compiled_method

POSSIBLE = [w for w in range(WORDS) if w not in IMPOSSIBLE]


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
    logits[list(IMPOSSIBLE)] = -np.inf
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
    kept, pool, greedy = [([], 0.0)], [], []

    def score(item):
        return item[1] / len(item[0]) ** penalty

    for _ in range(length):
        grown, likeliest = [], None
        for words, total in kept:
            if END in words:
                grown.append((words, total))
                continue
            log_p = next_words(network, features, words)
            grown += [([*words, w], total + log_p[w]) for w in POSSIBLE]
            if words == greedy:
                likeliest = [*words, int(log_p.argmax())]
        greedy = likeliest
        kept = sorted(grown, key=lambda item: (item[0] != greedy, -score(item)))[:beams]
        pool += [item for item in kept if item[0][-1] == END and item not in pool]
    pool += [item for item in kept if END not in item[0]]
    best = sorted(pool, key=score, reverse=True)[:beams]
    return [(item[0] + [PAD] * (length - len(item[0])), score(item)) for item in best]


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


@pytest.mark.parametrize("name", NAMES)
def test_a_beam_of_one_is_greedy(name):
    network = small_decoder(name)
    greedy, _ = sample(network, FEATURES, LENGTH)
    beam, _ = beam_search(network, FEATURES, LENGTH, 1)
    np.testing.assert_array_equal(numbers(beam), numbers(greedy))


def every_caption(length):
    """All that can be written, each with `<end>` or as long as can be; `<pad>` behind."""
    rows = set()
    for words in itertools.product(POSSIBLE, repeat=length):
        cut = words[: words.index(END) + 1] if END in words else words
        rows.add(cut + (PAD,) * (length - len(cut)))
    return np.array(sorted(rows))


@pytest.mark.parametrize("name", NAMES)
def test_a_beam_as_wide_as_all_finds_the_best(name):
    """All beginnings of two words are kept: so the result is the best there are, in order."""
    network, length = small_decoder(name), 3
    captions = every_caption(length)
    given = np.pad(captions[:, :-1], ((0, 0), (1, 0)), constant_values=START)
    logits = numbers(network(FEATURES[:1], given[None]))[0].astype("float64")
    logits[..., list(IMPOSSIBLE)] = -np.inf
    log_p = np.take_along_axis(log_softmax(logits), captions[..., None], axis=-1)[..., 0]
    words = captions != PAD
    totals = np.where(words, log_p, 0).sum(axis=-1)
    for penalty in (0.0, 0.7):
        found = beam_search(network, FEATURES[:1], length, 64, length_penalty=penalty)
        tokens, scores = (numbers(x)[0] for x in found)
        wanted = totals / words.sum(axis=-1) ** penalty
        best = np.argsort(-wanted)[:32]
        np.testing.assert_allclose(scores[:32], wanted[best], atol=1e-3)
        np.testing.assert_array_equal(tokens[:3], captions[best[:3]])


@pytest.mark.parametrize("name", NAMES)
def test_no_beam_ends_below_greedy(name):
    network = small_decoder(name)
    many = np.random.default_rng(2).standard_normal((100, REGIONS, CHANNELS)).astype("float32")
    tokens, totals = (numbers(x)[:, 0] for x in sample(network, many, LENGTH))
    for beams, penalty in ((2, 0.0), (3, 0.7)):
        _, scores = beam_search(network, many, LENGTH, beams, length_penalty=penalty)
        greedy = totals / (tokens != PAD).sum(axis=-1) ** penalty
        assert (numbers(scores)[:, 0] >= greedy - 1e-4).all()


class Chain:
    """A decoder that looks at the last word only.

    Args:
        after: The words, as letters, that may follow a letter, with their probabilities; "<"
            begins, ">" ends. After all others follow the letters from "k" on, any as likely.
    """

    name, built, max_length, vocabulary_size = "chain", True, 9, 30
    ids = {"<": START, ">": END, **{chr(ord("a") + i): 4 + i for i in range(26)}}

    def __init__(self, after):
        table = np.zeros((self.vocabulary_size, self.vocabulary_size))
        table[:, self.ids["k"] :] = 1 / 16
        for word, words in after.items():
            table[self.ids[word]] = 0
            for letter, probability in words.items():
                table[self.ids[word], self.ids[letter]] = probability
        self.logits = np.log(table + 1e-9).astype("float32")

    def start(self, features, captions, region_mask=None):
        return {"image": {}, "words": {"none": ops.zeros((len(features) * captions,))}}

    def step(self, tokens, state):
        return ops.take(self.logits, tokens, axis=0), state, None

    def beam(self, length, penalty):
        tokens, scores = beam_search(self, FEATURES[:1], length, 2, length_penalty=penalty)
        letters = {number: letter for letter, number in self.ids.items()}
        best = "".join(letters[int(word)] for word in numbers(tokens)[0, 0] if word)
        return best, float(scores[0, 0])


def test_a_caption_that_ended_is_not_lost():
    """Two beginnings promise more than ">", and come to nothing."""
    first = {"a": 0.45, ">": 0.4, "b": 0.15}
    chain = Chain({"<": first, "a": {"c": 1.0}, "c": {"d": 0.5, "e": 0.5}})
    best, score = chain.beam(length=5, penalty=1.0)
    assert best == ">" and score == pytest.approx(np.log(0.4), abs=1e-4)


def test_the_greedy_caption_is_not_pushed_out():
    """After two words there are two beginnings likelier than "ad", which then ends well."""
    first = {"a": 0.4, "b": 0.35, "c": 0.25}
    second = {"a": {"d": 0.3, "e": 0.25, "f": 0.25, "g": 0.2}, "b": {"h": 0.5, "i": 0.5}}
    chain = Chain({"<": first, **second, "d": {">": 1.0}})
    best, score = chain.beam(length=5, penalty=0.0)
    assert best == "ad>" and score == pytest.approx(np.log(0.4 * 0.3), abs=1e-4)


def test_what_is_hidden_is_not_told():
    network = small_decoder("attention_lstm")
    other = np.where(SOME_HIDDEN[..., None], FEATURES, 7.0).astype("float32")
    uniforms = np.random.default_rng(0).random((4, 3, LENGTH), dtype="float32")
    for write in (
        functools.partial(sample, network, length=LENGTH),
        functools.partial(sample, network, length=LENGTH, uniforms=uniforms),
        functools.partial(beam_search, network, length=LENGTH),
    ):
        wanted, scores = (numbers(x) for x in write(FEATURES, region_mask=SOME_HIDDEN))
        found, again = (numbers(x) for x in write(other, region_mask=SOME_HIDDEN))
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_allclose(again, scores, atol=1e-4)
        assert np.abs(numbers(write(other)[1]) - scores).max() > 1e-2


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
    drawn = {p: sample(network, FEATURES[:1], 1, uniforms, top_p=p)[0] for p in (0.499, 0.6)}
    assert len(set(numbers(drawn[0.499]).ravel())) == 1
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
