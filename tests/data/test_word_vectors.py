"""Vectors of words from text files in GloVe's format."""

import os

import numpy as np
import pytest

from common.data import Vocabulary
from common.data.word_vectors import learn_vectors, load_glove, word_vectors
from common.errors import DataError

LINES = ["the 1 2 3", "dog -1 0 0.5", "cat 0 0 1", "don't 2 2 2"]
VOCABULARY = Vocabulary(["dog", "zebra", "the", "don't"], 1)


def glove(folder, lines=LINES):
    path = folder / "glove.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_vectors_of_a_vocabulary(tmp_path):
    found = word_vectors(VOCABULARY, load_glove(glove(tmp_path)), "tiny")
    assert found.vectors.shape == (8, 3) and found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors[4], [-1, 0, 0.5])
    np.testing.assert_array_equal(found.vectors[6:], [[1, 2, 3], [2, 2, 2]])
    assert found.found.tolist() == [False] * 4 + [True, False, True, True]
    captions = [["the", "dog", "dog"], ["a", "zebra"]]
    shares = found.coverage(VOCABULARY, captions)
    assert shares == {"words": 0.75, "occurrences": 0.6}


def test_words_without_a_vector_have_the_statistics_of_the_others(tmp_path):
    rng = np.random.default_rng(0)
    known = rng.normal([5, -1], [0.1, 2], (3000, 2))
    lines = [f"w{i} {a} {b}" for i, (a, b) in enumerate(known)]
    words = [f"w{i}" for i in range(3000)] + [f"new{i}" for i in range(3000)]
    keyed = load_glove(glove(tmp_path, lines))
    found = word_vectors(Vocabulary(words, 1), keyed, "tiny", seed=3)
    new = found.vectors[~found.found]
    np.testing.assert_allclose(new.mean(axis=0), known.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(new.std(axis=0), known.std(axis=0), rtol=0.1)
    again = word_vectors(Vocabulary(words, 1), keyed, "tiny", seed=3)
    np.testing.assert_array_equal(again.vectors, found.vectors)


@pytest.mark.parametrize(
    "line, message",
    [
        ("bird 1 2", "line 3: 'bird' has 2 numbers, the words before have 3"),
        ("bird 1 2 3 4", "line 3: 'bird' has 4 numbers, the words before have 3"),
        ("dog 1 2 3", "line 3: 'dog' stands in line 2 already"),
        ("bird 1 x 3", "line 3: 'bird' is not followed by numbers"),
        ("bird 1 nan 3", "line 3: 'bird' is not followed by numbers"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    path = glove(tmp_path, [*LINES[:2], line, *LINES[2:]])
    with pytest.raises(DataError, match=message):
        load_glove(path)


def test_files_that_are_no_glove(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"line 1: a header \(4 words of 3 numbers\)"):
        load_glove(glove(tmp_path, ["4 3", *LINES]))
    with pytest.raises(DataError, match="is empty"):
        load_glove_of_nothing(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        load_glove(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="has no vector for any of the 5 words"):
        word_vectors(Vocabulary(["okapi"], 1), load_glove(glove(tmp_path)), "tiny")


def load_glove_of_nothing(folder):
    path = folder / "empty.txt"
    path.write_text("")
    return load_glove(path)


def test_by_name_from_the_data_folder_else_downloaded(tmp_path, monkeypatch):
    import gensim.downloader

    monkeypatch.setenv("COURSE_DATA", str(tmp_path))

    def no_network(name):
        raise OSError(f"no route to {name}")

    monkeypatch.setattr(gensim.downloader, "load", no_network)
    with pytest.raises(DataError, match=r"glove.6B.50d.txt does not exist, and gensim could not"):
        load_glove("glove-wiki-gigaword-50")
    (tmp_path / "glove").mkdir()
    glove(tmp_path / "glove").rename(tmp_path / "glove" / "glove.6B.50d.txt")
    assert "dog" in load_glove("glove-wiki-gigaword-50")


def test_vectors_from_captions_alone():
    """Words that stand in the same places are alike."""
    rng = np.random.default_rng(0)
    captions = []
    for _ in range(2000):
        colour = rng.choice(["red", "blue"])
        captions.append(["a", colour, rng.choice(["ball", "box"]), "lies", "on", "the", "floor"])
    vectors = learn_vectors(captions, dim=10)
    assert vectors.most_similar("red", topn=1)[0][0] == "blue"
    np.testing.assert_array_equal(vectors["red"], learn_vectors(captions, dim=10)["red"])


REAL = os.path.join(os.environ.get("COURSE_DATA", ""), "glove", "glove.6B.50d.txt")


@pytest.mark.skipif(not os.path.exists(REAL), reason="GloVe is not under COURSE_DATA")
def test_real_vectors():
    keyed = load_glove(REAL)
    assert "woman" in [word for word, _ in keyed.most_similar("man", topn=3)]
    found = word_vectors(Vocabulary(["dog", "dogs", "grass"], 1), keyed, "GloVe")
    assert found.vectors.shape == (7, 50) and found.found[4:].all()
