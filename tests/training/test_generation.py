"""Captions for many images by compiled decoders."""

import numpy as np
import pytest
from captioner_models import FEATURES, LENGTH, NAMES, SOME_HIDDEN, WORDS, small_decoder
from keras import ops

from common.data.vocabulary import END, START, Vocabulary
from common.errors import ConfigError, DataError
from common.models.captioning import decoding
from common.training.generation import Generator, caption_rows, caption_tokens

VOCABULARY = Vocabulary([f"word{i}" for i in range(4, WORDS)], 1)
MANY = np.random.default_rng(1).standard_normal((7, *FEATURES.shape[1:])).astype("float16")


def numbers(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_and_in_batches_is_the_same(name):
    network = small_decoder(name)
    generator = Generator(network, VOCABULARY, batch_size=3)  # 3, 3 and 1 filled up
    features = MANY.astype("float32")
    greedy, scores = decoding.sample(network, features, LENGTH - 1)
    tokens, found = generator.tokens(MANY)
    np.testing.assert_array_equal(tokens, numbers(greedy))
    np.testing.assert_allclose(found, numbers(scores), atol=1e-4)
    for penalty in (0.5, 2.0):
        beams, _ = decoding.beam_search(network, features, LENGTH - 1, 2, length_penalty=penalty)
        tokens, _ = generator.tokens(MANY, "beam", beams=2, length_penalty=penalty)
        np.testing.assert_array_equal(tokens, numbers(beams))


@pytest.mark.parametrize(
    "method, options",
    [("greedy", {}), ("beam", {"beams": 3, "length_penalty": 0.5}), ("beam", {"beams": 2})],
)
def test_the_score_of_a_caption_is_the_mean_over_its_words(method, options):
    network = small_decoder("lstm")
    generator = Generator(network, VOCABULARY, 3)
    captions, scores = generator.scored_captions(MANY, method, **options)
    assert captions == generator.captions(MANY, method, **options)
    for image, words, score in zip(MANY.astype("float32"), captions, scores, strict=True):
        # Word by word, by the decoder alone.
        state, last, log_p = network.start(image[None], 1), np.array([START]), []
        ended = [] if len(words) == LENGTH - 1 else [END]
        for word in [*VOCABULARY.encode([words], LENGTH)[0, 1 : 1 + len(words)], *ended]:
            logits, state, _ = network.step(last, state)
            log_p.append(numbers(ops.log_softmax(decoding.possible_words(logits)))[0, word])
            last = np.array([word])
        assert score == pytest.approx(np.mean(log_p), abs=1e-4)


def test_weights_may_change_between_calls():
    network = small_decoder("multi_head")
    generator = Generator(network, VOCABULARY, 4)
    before, _ = generator.tokens(MANY)
    network.set_weights(small_decoder("multi_head", seed=9).get_weights())
    after, _ = generator.tokens(MANY)
    expected, _ = decoding.sample(network, MANY.astype("float32"), LENGTH - 1)
    np.testing.assert_array_equal(after, numbers(expected))
    assert (before != after).any()


def test_samples_follow_their_seed():
    generator = Generator(small_decoder("lstm"), VOCABULARY, 3)
    first, _ = generator.tokens(MANY, "sample", captions=5, seed=1)
    again, _ = generator.tokens(MANY, "sample", captions=5, seed=1)
    other, _ = generator.tokens(MANY, "sample", captions=5, seed=2)
    assert first.shape == (7, 5, LENGTH - 1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_options_are_those_of_each_call():
    network = small_decoder("multi_head")
    generator = Generator(network, VOCABULARY, len(MANY))
    uniforms = np.random.default_rng(3).random((len(MANY), 2, LENGTH - 1), dtype="float32")
    drawn = []
    for options in ({}, {"temperature": 0.5}, {"temperature": 3.0}, {"top_p": 0.3}):
        tokens, _ = generator.tokens(MANY, "sample", captions=2, seed=3, **options)
        expected, _ = decoding.sample(
            network, MANY.astype("float32"), LENGTH - 1, uniforms, **options
        )
        np.testing.assert_array_equal(tokens, numbers(expected))
        drawn.append(tokens.tobytes())
    assert len(set(drawn)) == len(drawn)


def test_hidden_regions_are_those_of_each_call():
    network = small_decoder("lstm")
    generator = Generator(network, VOCABULARY, 3)
    _, plain = generator.tokens(MANY)
    for mask in (np.resize(SOME_HIDDEN, (7, 6)), np.resize(~SOME_HIDDEN, (7, 6))):
        expected = decoding.sample(network, MANY.astype("float32"), LENGTH - 1, region_mask=mask)
        tokens, log_p = generator.tokens(MANY, region_mask=mask)
        np.testing.assert_array_equal(tokens, numbers(expected[0]))
        np.testing.assert_allclose(log_p, numbers(expected[1]), atol=1e-4)
        assert np.abs(log_p - plain).max() > 1e-3
    np.testing.assert_allclose(generator.tokens(MANY)[1], plain, atol=1e-6)


def test_words():
    generator = Generator(small_decoder("rnn"), VOCABULARY, 4)
    tokens, _ = generator.tokens(MANY)
    captions = generator.captions(MANY)
    for row, words in zip(tokens[:, 0], captions, strict=True):
        assert words == [f"word{i}" for i in row if i > 3]


@pytest.mark.parametrize("method", ["greedy", "beam"])
@pytest.mark.parametrize("name", NAMES)
def test_attention_of_each_written_word(name, method):
    network = small_decoder(name)
    generator = Generator(network, VOCABULARY, 3)
    tokens, _ = generator.tokens(MANY, method)
    captions = generator.captions(MANY, method)
    found = generator.attention(MANY, captions)
    if name in NAMES[:2]:
        assert found is None
        return
    assert [len(looked) for looked in found] == [len(words) for words in captions]
    state = network.start(MANY.astype("float32"))
    word = np.full(7, START, "int32")
    for t in range(LENGTH - 1):
        _, state, wanted = network.step(ops.convert_to_tensor(word), state)
        for looked, right in zip(found, numbers(wanted), strict=True):
            if t < len(looked):
                np.testing.assert_allclose(looked[t], right, atol=1e-4)
        word = tokens[:, 0, t]


def test_caption_tokens():
    found = caption_tokens([[["word4", "nothing"], ["word5"]], [["word6"] * 9]], VOCABULARY, 5)
    np.testing.assert_array_equal(
        found,
        [[[1, 4, 3, 2, 0], [1, 5, 2, 0, 0]], [[1, 6, 6, 6, 6], [0, 0, 0, 0, 0]]],
    )


def test_an_image_with_many_captions_gets_several_rows():
    owners, rows = caption_rows([["a"], ["b"], list("cdefghijklmn")])
    assert owners.tolist() == [0, 1, 2, 2, 2]
    assert [len(row) for row in rows] == [1, 1, 5, 5, 2]
    assert "".join(word for row in rows for word in row) == "abcdefghijklmn"
    owners, rows = caption_rows([["a"] * 5, ["b"] * 3])
    assert owners.tolist() == [0, 1] and rows == [["a"] * 5, ["b"] * 3]


def test_values_out_of_range_are_refused_though_they_are_handed_to_compiled_functions():
    generator = Generator(small_decoder("rnn"), VOCABULARY)
    for options, told in (
        ({"method": "sample", "temperature": 0.0}, "temperature=0.0 is out of range: above 0"),
        ({"method": "beam", "length_penalty": np.nan}, "length_penalty=nan is out of range"),
    ):
        with pytest.raises(ConfigError, match=told):
            generator.tokens(MANY, **options)


def test_bad_input():
    with pytest.raises(DataError, match="The vocabulary has 10 words, the decoder 'rnn' was made"):
        Generator(small_decoder("rnn"), Vocabulary([f"w{i}" for i in range(6)], 1))
    with pytest.raises(ConfigError, match="method='best' is unknown"):
        Generator(small_decoder("rnn"), VOCABULARY).captions(MANY, "best")
