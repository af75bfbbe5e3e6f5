import json

import numpy as np
import pytest

from common.data.vocabulary import END, PAD, START, UNK, Vocabulary, normalise
from common.errors import ConfigError, DataError

CAPTIONS = [["a", "dog", "runs"], ["a", "dog", "sits"], ["a", "cat", "sits"], ["zebra"]]


@pytest.mark.parametrize(
    "caption, words",
    [
        ("A dog runs .", ["a", "dog", "runs"]),
        ("black-and-white", ["black", "and", "white"]),
        ("The dog’s ball, the boys' kite!", ["the", "dog's", "ball", "the", "boys", "kite"]),
        ("3 men; 2nd place", ["3", "men", "2nd", "place"]),
        ("Ein Hündchen", ["ein", "hündchen"]),
        (" . ", []),
    ],
)
def test_normalise(caption, words):
    assert normalise(caption) == words


def test_words_stand_by_frequency_whatever_the_order_of_captions():
    vocabulary = Vocabulary.build(CAPTIONS, min_count=2)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "dog", "sits")
    assert Vocabulary.build(CAPTIONS[::-1], min_count=2) == vocabulary
    assert len(vocabulary) == 7
    assert "dog" in vocabulary
    assert "zebra" not in vocabulary


def test_encode_and_decode():
    vocabulary = Vocabulary.build(CAPTIONS, min_count=2)
    tokens = vocabulary.encode([["a", "zebra", "sits"], []], 6)
    np.testing.assert_array_equal(
        tokens, [[START, 4, UNK, 6, END, PAD], [START, END, PAD, PAD, PAD, PAD]]
    )
    assert tokens.dtype == np.int32
    assert vocabulary.decode(tokens[0]) == ["a", "<unk>", "sits"]
    assert vocabulary.decode([4, END, 5]) == ["a"]


def test_a_caption_that_does_not_fit_is_cut_and_does_not_end():
    vocabulary = Vocabulary.build(CAPTIONS, min_count=1)
    tokens = vocabulary.encode([["a", "dog", "runs"]], 3)
    assert END not in tokens
    assert vocabulary.decode(tokens[0]) == ["a", "dog"]


def test_saved_as_readable_json(tmp_path):
    vocabulary = Vocabulary.build([["hündchen", "a"]], min_count=1)
    vocabulary.save(tmp_path / "vocabulary.json")
    text = (tmp_path / "vocabulary.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"min_count": 1, "words": ["a", "hündchen"]}
    assert "hündchen" in text
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    "content", ["[1]", '{"words": 3}', '{"words": ["a", "a"]}', "{", '{"words": ["<pad>"]}']
)
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(DataError, match="vocabulary.json"):
        Vocabulary.load(path)


def test_no_frequent_word():
    with pytest.raises(ConfigError, match="No word occurs 9 times"):
        Vocabulary.build(CAPTIONS, min_count=9)
