"""Vectors of words from text files in GloVe's format."""

import gzip
import os
import zipfile

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
        ("bird 1 2", "line 3: 'bird' has 2 numbers, the other words have 3"),
        ("bird 1 2 3 4", "line 3: 'bird' has 4 numbers, the other words have 3"),
        ("bird  1 2 3  4", "line 3: "),
        ("bird\t1\t2\t3", "line 3: "),
        ("a bird 1 2", "line 3: "),
        ("bird 1 2 3\rcat 1 2 3", "line 3: a carriage return within the line"),
        ("bird 1 x 3", "line 3: 'bird' is not followed by numbers"),
        ("bird 1 nan 3", "line 3: 'bird' is not followed by numbers"),
        ("bird 1 inf 3", "line 3: 'bird' is not followed by numbers"),
        ("bird 1 1e39 3", "line 3: 'bird' is not followed by numbers"),
        ("bird", "line 3: 'bird' is not followed by numbers"),
        ("x" * 10_000, "line 3: 'x{40,60} is not"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    path = glove(tmp_path, [*LINES[:2], line, *LINES[2:]])
    with pytest.raises(DataError, match=message):
        load_glove(path)


@pytest.mark.parametrize(
    "word",
    [". . .", "at name@domain.com", "a\x85b", "\x85", "a\u2028b", "a\rb", "a\x0cb", "\u00a0", "",
     "nan", "1", "to infinity", "café", "\ufeff"],
)  # fmt: skip
def test_words_as_the_published_files_have_them(tmp_path, word):
    keyed = load_glove(glove(tmp_path, [*LINES, f"{word} 4 5 6", "runs 7 8 9"]))
    np.testing.assert_array_equal(keyed[word], [4, 5, 6])
    np.testing.assert_array_equal(keyed["runs"], [7, 8, 9])
    assert len(keyed) == 6 and keyed.most_similar("the", topn=1)


@pytest.mark.parametrize("first", [[". . . 7 8 9"], ["1 7 8 9"], ["route 66 7 8 9"], ["4 3"]])
def test_the_first_line_may_be_odd(tmp_path, first):
    """The number of numbers is that of most lines; "4 3" is the header of fastText."""
    lines = [*first, *LINES]
    if first == ["route 66 7 8 9"]:
        with pytest.raises(DataError, match="line 1: 'route' has 4 numbers"):
            load_glove(glove(tmp_path, lines))
        return
    keyed = load_glove(glove(tmp_path, lines))
    np.testing.assert_array_equal(keyed["dog"], [-1, 0, 0.5])
    assert len(keyed) == 4 + (first != ["4 3"])


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n\n"])
def test_ends_of_lines_and_byte_order_marks(tmp_path, end, mark, last):
    path = tmp_path / "glove.txt"
    path.write_bytes((mark + end.join(LINES) + last).encode())
    keyed = load_glove(path)
    assert keyed.index_to_key == ["the", "dog", "cat", "don't"]
    np.testing.assert_array_equal(keyed.vectors[3], [2, 2, 2])


def test_packed_as_they_are_published(tmp_path, monkeypatch):
    plain = glove(tmp_path)
    (tmp_path / "v.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert "dog" in load_glove(tmp_path / "v.gz")
    (tmp_path / "glove").mkdir()
    with zipfile.ZipFile(tmp_path / "glove" / "glove.6B.zip", "w") as archive:
        archive.write(plain, "glove.6B.50d.txt")
    assert "dog" in load_glove(tmp_path / "glove" / "glove.6B.zip")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert "dog" in load_glove("glove-wiki-gigaword-50")
    with zipfile.ZipFile(tmp_path / "glove" / "glove.6B.zip", "a") as archive:
        archive.write(plain, "glove.6B.100d.txt")
    assert "dog" in load_glove("glove-wiki-gigaword-100")
    with pytest.raises(DataError, match="holds glove.6B.50d.txt, glove.6B.100d.txt. Unpack it"):
        load_glove(tmp_path / "glove" / "glove.6B.zip")


def test_of_words_that_come_twice_the_first_counts(tmp_path, caplog):
    keyed = load_glove(glove(tmp_path, [*LINES, "dog 9 9 9", "the 9 9 9"]))
    np.testing.assert_array_equal(keyed["dog"], [-1, 0, 0.5])
    assert len(keyed) == 4 and "2 words come twice" in caplog.text


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"\n \n", "has no vectors"),
        (b"<!DOCTYPE html>\n<html>\n", "line 1: '<!DOCTYPE' is not followed by numbers"),
        (b"5 3\nthe 1 2 3\ndog 1 2 3\n", "line 1: 5 words of 3 numbers are announced, and 2 of 3"),
        (b"2 4\nthe 1 2 3\ndog 1 2 3\n", "line 1: 2 words of 4 numbers are announced"),
        (b"the 1 2 3\ndo\xffg 1 2 3\n", "line 2: not UTF-8"),
        (b"the 1 2 3\ndog 1 2 3\ncat 1 2", "line 3: 'cat' has 2 numbers"),
        (b"2 3\nthe \0\0\x80\x3f\0\0\0\0\0\0\0\0\ndog \0\0\x80\x3f", "line 2: .*binary"),
        (b"the 1 2 3\n\0\0\0\0\0\0\0\n", "line 2: a null byte"),
        ("the 1 2 3\n".encode("utf-16"), "saved as UTF-16"),
        (b"the 1 2 3\rdog 1 2 3\rcat 1 2 3", "line 1: a carriage return within the line"),
        (gzip.compress(b"the 1 2 3\n" * 9, mtime=0)[:-6], "is damaged, or of another kind"),
        (gzip.compress(b"the 1 2 3\n" * 9, mtime=0)[:-8] + b"\1" * 8, "cannot be read"),
        (b"PK\3\4 and no more", "is damaged, or of another kind"),
    ],
)
def test_files_that_are_no_vectors(tmp_path, content, message):
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"v.txt.*{message}"):
        load_glove(path)


def test_no_file_and_no_word(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            load_glove(path)
    with pytest.raises(DataError, match="has no vector for any of the 5 words"):
        word_vectors(Vocabulary(["okapi"], 1), load_glove(glove(tmp_path)), "tiny")


def test_by_name_from_the_data_folder_else_downloaded(tmp_path, monkeypatch):
    import gensim.downloader

    monkeypatch.setenv("COURSE_DATA", str(tmp_path))

    def no_network(name, return_path):
        raise OSError(f"no route to {name}")

    monkeypatch.setattr(gensim.downloader, "load", no_network)
    with pytest.raises(DataError, match=r"glove.6B.50d.txt does not exist, and gensim could not"):
        load_glove("glove-wiki-gigaword-50")
    (tmp_path / "glove").mkdir()
    glove(tmp_path / "glove").rename(tmp_path / "glove" / "glove.6B.50d.txt")
    assert "dog" in load_glove("glove-wiki-gigaword-50")


def test_what_gensim_downloads_is_read_here_and_half_of_it_is_named(tmp_path, monkeypatch):
    import gensim.downloader

    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path / "gensim"))
    folder = tmp_path / "gensim" / "glove-wiki-gigaword-50"
    folder.mkdir(parents=True)
    file = folder / "glove-wiki-gigaword-50.gz"
    monkeypatch.setattr(gensim.downloader, "load", lambda name, return_path: str(file))
    with pytest.raises(DataError, match=f"delete {folder}, which a download left"):
        load_glove("glove-wiki-gigaword-50")
    file.write_bytes(gzip.compress("\n".join(["4 3", *LINES]).encode()))
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
