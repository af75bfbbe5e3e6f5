import json
import time
import unicodedata

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
        ("एक कुत्ता पानी में दौड़ता है।", ["एक", "कुत्ता", "पानी", "में", "दौड़ता", "है"]),
        ("หมา วิ่ง เร็ว", ["หมา", "วิ่ง", "เร็ว"]),
        ("একটি ছেলে খেলছে", ["একটি", "ছেলে", "খেলছে"]),
        ("رَجُلٌ يَمْشِي", ["رَجُلٌ", "يَمْشِي"]),
        ("İki KÖPEK", ["iki", "köpek"]),
        ("I\u0307ki", ["iki"]),
        (
            unicodedata.normalize("NFD", "Un CAFÉ, près du vélo"),
            ["un", "café", "près", "du", "vélo"],
        ),
        (unicodedata.normalize("NFD", "Một con chó"), ["một", "con", "chó"]),
        ("J\u030c", ["\u01f0"]),
        ("L’été", ["l'été"]),
        # Joiners belong to a word within it, not at its ends.
        ("क्\u200dष dog\u200d runs", ["क्\u200dष", "dog", "runs"]),
        ("می\u200cروم", ["می\u200cروم"]),
        ("beau\u00adtiful", ["beautiful"]),
        ("3\ufe0f\u20e3 dogs \u2764\ufe0f \U0001f468\u200d\U0001f467", ["3", "dogs"]),
        ("\u0301 \u200d", []),
        ("a_b __ c'_d", ["a", "b", "c", "d"]),
        ("a\u2028dog\x85runs\x0cfast", ["a", "dog", "runs", "fast"]),
    ],
)
def test_normalise(caption, words):
    assert normalise(caption) == words


@pytest.mark.parametrize(
    "text",
    ["a", "'", "a'", "a\u2019", "\u0301", "a\u0301\u0316", "\u200d",
     "i\u0307", "_", "\u0915\u094d\u200d", "\ufe0f"],
)  # fmt: skip
def test_time_grows_with_the_length_alone(text):
    start = time.perf_counter()
    normalise(text * (10**5 // len(text)))
    normalise("a" + text[1:] * 50_000)
    assert time.perf_counter() - start < 5


def test_a_word_begins_with_a_letter_or_a_digit():
    """What `add_caption` looks for: no letter, no word."""
    for code in [*range(0x3000), *range(0xFE00, 0x10000), *range(0x1F000, 0x1F700)]:
        assert bool(normalise(chr(code))) == any(map(str.isalnum, chr(code))), hex(code)


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


def test_fingerprint_tells_the_words_and_their_order():
    print_ = Vocabulary(["a", "dog"]).fingerprint()
    assert len(print_) == 16 and int(print_, 16) >= 0
    assert print_ == Vocabulary(["a", "dog"], min_count=7).fingerprint()
    others = (["dog", "a"], ["a"], ["adog"], ["a,dog"], ["a", "d\xf6g"])
    assert len({print_, *(Vocabulary(words).fingerprint() for words in others)}) == 6


@pytest.mark.parametrize(
    "content",
    [
        "[1]", "null", "3", '"a"', "{", '{"words": 3}', '{"words": null}', '{"words": ["a", "a"]}',
        '{"words": ["<pad>"]}', '{"words": [""]}', '{"words": ["a", 1]}', '{"words": [["a"]]}',
        '{"words": ["\\ud800"]}', '{"words": ["a"], "min_count": "5"}', "[" * 100_000,
        '{"words": ["a"], "min_count": null}', '{"words": ["a"], "min_count": true}',
        '{"words": ["a"], "min_count": [1]}', '{"words": ["a"], "min_count": 1.5}',
        '{"words": ["a"], "min_count": NaN}', '{"words": ["a"], "min_count": -1}',
    ],
)  # fmt: skip
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(DataError, match="vocabulary.json"):
        Vocabulary.load(path)


def test_long_words_are_cut_in_an_error():
    with pytest.raises(DataError) as error:
        Vocabulary(["a" * 10_000, "a" * 10_000])
    assert len(str(error.value)) < 400


def test_no_frequent_word():
    with pytest.raises(ConfigError, match="No word occurs 9 times"):
        Vocabulary.build(CAPTIONS, min_count=9)
