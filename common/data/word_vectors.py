"""Vectors of words that others have learned from far more text: GloVe, in its text format.

Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation" (2014).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.vocabulary import SPECIAL, Vocabulary
from common.errors import DataError
from common.paths import data_dir

# By name in gensim's collection, and the official file that holds the same vectors.
GLOVE = {f"glove-wiki-gigaword-{dim}": f"glove.6B.{dim}d.txt" for dim in (50, 100, 200, 300)}
DEFAULT = "glove-wiki-gigaword-50"


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Vectors of a vocabulary's words.

    Attributes:
        name: Where they come from.
        vectors: float32 `(vocabulary, dim)`. Words without one, the special ones among them, got
            random numbers with the mean and spread of the others, dimension by dimension.
        found: bool `(vocabulary,)`: which words have a vector of their own.
    """

    name: str
    vectors: np.ndarray
    found: np.ndarray

    def coverage(self, vocabulary: Vocabulary, captions) -> dict[str, float]:
        """Share of the words, and of their occurrences in captions, that have a vector.

        Args:
            vocabulary: Of these vectors.
            captions: Lists of words.
        """
        counts = Counter(word for caption in captions for word in caption)
        known = {word for word, has in zip(vocabulary.words, self.found, strict=True) if has}
        own = self.found[len(SPECIAL) :]
        total = sum(counts.values())
        return {
            "words": float(own.mean()),
            "occurrences": sum(n for word, n in counts.items() if word in known) / total,
        }


def load_glove(source: str | Path = DEFAULT):
    """GloVe vectors as gensim's `KeyedVectors`.

    Args:
        source: The path of a text file, or a name of `GLOVE`: its file is looked for in
            `COURSE_DATA/glove`, and gensim downloads the vectors where it is absent.

    Raises:
        DataError: for a file that is no table of vectors (says which line), or if there is no such
            file and no network.
    """
    path = data_dir() / "glove" / GLOVE[source] if str(source) in GLOVE else Path(source)
    if not path.exists() and str(source) in GLOVE:
        return _downloaded(str(source), path)
    from gensim.models import KeyedVectors

    _check(path)
    return KeyedVectors.load_word2vec_format(str(path), binary=False, no_header=True)


def word_vectors(vocabulary: Vocabulary, keyed, name: str, seed: int = 0) -> WordVectors:
    """The vectors of a vocabulary.

    Args:
        vocabulary: The words.
        keyed: From `load_glove`, or anything with `in` and `[word]`.
        name: Where they come from.
        seed: Of the numbers for words without a vector.

    Raises:
        DataError: if not one word has a vector.
    """
    found = np.array([word in keyed for word in vocabulary.words])
    found[: len(SPECIAL)] = False
    if not found.any():
        raise DataError(f"{name} has no vector for any of the {len(vocabulary)} words.")
    pairs = zip(vocabulary.words, found, strict=True)
    known = np.stack([keyed[word] for word, has in pairs if has]).astype("float32")
    rng = np.random.default_rng(seed)
    vectors = rng.normal(known.mean(axis=0), known.std(axis=0), (len(vocabulary), known.shape[1]))
    vectors = vectors.astype("float32")
    vectors[found] = known
    return WordVectors(name, vectors, found)


def learn_vectors(captions: list[list[str]], dim: int = 50, seed: int = 0):
    """Vectors from captions alone, by gensim's `Word2Vec`: no file and no network is needed.

    Mikolov et al., "Efficient Estimation of Word Representations in Vector Space" (2013), with
    skip-grams. They know what stands beside what in these captions, and nothing else.

    Args:
        captions: Lists of words.
        dim: Size of a vector.
        seed: Of everything random.
    """
    from gensim.models import Word2Vec

    # One worker: several would make the numbers depend on who is faster.
    model = Word2Vec(
        captions, vector_size=dim, window=5, min_count=1, sg=1, epochs=5, seed=seed, workers=1
    )
    return model.wv


def _downloaded(name: str, path: Path):
    import gensim.downloader

    try:
        return gensim.downloader.load(name)
    except Exception as error:  # whatever the network, or a half download, brings
        raise DataError(
            f"{path} does not exist, and gensim could not download {name} ({error}). Put the file "
            "there (glove.6B.zip from nlp.stanford.edu/projects/glove), or name another one."
        ) from error


def _check(path: Path) -> None:
    """Looks at every line: gensim would stop at a bad one without telling which."""
    try:
        lines = path.open(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    seen: dict[str, int] = {}
    size = None
    with lines:
        try:
            for number, line in enumerate(lines, 1):
                word, *values = line.rstrip("\n").split(" ")
                problem = _problem(word, values, size, number, seen)
                if problem:
                    raise DataError(
                        f"{path}, line {number}: {problem}. Wanted: a word and its numbers, with "
                        "single spaces between. Restore the original file."
                    )
                size = len(values)
                seen[word] = number
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, after line {len(seen)}: not UTF-8.") from error
    if not seen:
        raise DataError(f"{path} is empty.")


def _problem(word, values, size, number, seen) -> str | None:
    if number == 1 and len(values) == 1:
        return f"a header ({word} words of {values[0]} numbers), which GloVe's files do not have"
    if size is not None and len(values) != size:
        return f"{word!r} has {len(values)} numbers, the words before have {size}"
    if word in seen:
        return f"{word!r} stands in line {seen[word]} already"
    try:
        if np.isfinite(np.array(values, "float32")).all() and values:
            return None
    except ValueError:
        pass
    return f"{word!r} is not followed by numbers"
