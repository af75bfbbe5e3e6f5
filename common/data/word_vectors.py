"""Vectors of words that others have learned from far more text: GloVe, in its text format.

Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation" (2014).
"""

import gzip
import hashlib
import logging
import lzma
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.data.vocabulary import SPECIAL, Vocabulary
from common.errors import DataError
from common.paths import data_dir, expand

logger = logging.getLogger(__name__)

# By name in gensim's collection, and the official file that holds the same vectors.
GLOVE = {f"glove-wiki-gigaword-{dim}": f"glove.6B.{dim}d.txt" for dim in (50, 100, 200, 300)}
DEFAULT = "glove-wiki-gigaword-50"
ARCHIVE = "glove.6B.zip"
_DAMAGE = (EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_FIRST = 100  # lines that tell how many numbers a word has


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

    def fingerprint(self) -> str:
        """Sixteen digits of the vectors, in the order of the words."""
        return hashlib.sha256(np.ascontiguousarray(self.vectors)).hexdigest()[:16]

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
            "occurrences": sum(n for word, n in counts.items() if word in known) / max(total, 1),
        }


def load_glove(source: str | Path = DEFAULT):
    """Vectors in GloVe's or fastText's text format, as gensim's `KeyedVectors`.

    A line is a word, which may have blanks in it (those of 840 billion words have), and as many
    numbers as in the other lines. fastText's first line (`words numbers`) is passed over. Of words
    that come twice the first one counts, as the most frequent stand first; the log tells how many.

    Args:
        source: The path of a text file, also in gzip or zip; or a name of `GLOVE`: its file, or
            `glove.6B.zip`, is looked for in `COURSE_DATA/glove`, and gensim downloads the vectors
            where both are absent.

    Raises:
        DataError: for a file that is no table of vectors (says which line), or if there is no such
            file and no network.
    """
    if str(source) not in GLOVE:
        return _read(expand(source))
    path = data_dir() / "glove" / GLOVE[str(source)]
    if path.exists():
        return _read(path)
    archive = path.with_name(ARCHIVE)
    return _read(archive, path.name) if archive.exists() else _downloaded(str(source), path)


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

    gensim.downloader.logger.disabled = True  # it logs the traceback of what is told below
    try:
        file = gensim.downloader.load(name, return_path=True)
        # Read here, not by the module that comes along with the file.
        return _read(Path(file))
    except Exception as error:  # whatever the network, or a half download, brings
        places = [Path(gensim.downloader.BASE_DIR, name + end) for end in ("", "_tmp")]
        left = " and ".join(str(place) for place in places if place.exists())
        raise DataError(
            f"{path} does not exist, and gensim could not download {name} ({error}). Put the file "
            f"or {ARCHIVE} there (from nlp.stanford.edu/projects/glove), or name another one."
            + (f" Or delete {left}, which a download left, and run the same again." if left else "")
        ) from error


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked; errors of reading become `DataError`."""
    try:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            start = file.read(4)
            file.seek(0)
            if start[:2] == b"\x1f\x8b":
                file = stack.enter_context(gzip.open(file))
            elif start == b"PK\3\4":
                archive = stack.enter_context(zipfile.ZipFile(file))
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
                if member is None and len(names) == 1:
                    member = names[0]
                if member not in names:
                    raise DataError(
                        f"{path} holds {', '.join(names)[:200]}. Unpack it and name one file."
                    )
                file = stack.enter_context(archive.open(member))
            yield file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except _DAMAGE as error:
        raise DataError(
            f"{path} is damaged, or of another kind: {error}. Download it again."
        ) from error


def _read(path: Path, member: str | None = None):
    from gensim.models import KeyedVectors

    with _opened(path, member) as file:
        words, vectors = _table(path, file)
    keyed = KeyedVectors(vectors.shape[1])
    # As `add_vectors` would, without two more copies of gigabytes.
    keyed.index_to_key, keyed.key_to_index, keyed.vectors = list(words), words, vectors
    return keyed


def _table(path: Path, file: BinaryIO) -> tuple[dict[str, int], np.ndarray]:
    """The row of each word, and the rows: float32 `(words, numbers)`."""
    # Bytes, not text: only a line feed ends a line; words hold what Python takes for others.
    first = list(islice(file, _FIRST))
    if not first:
        raise DataError(f"{path} is empty.")
    if first[0][:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is saved as UTF-16. Save it as UTF-8.")
    first[0] = first[0].removeprefix(b"\xef\xbb\xbf")
    header = first[0].split()
    has_header = len(header) == 2 and header[0].isdigit() and header[1].isdigit()
    size = _size(first[has_header:])
    if has_header and size == 1:  # no header: words that are numbers, and one number each
        has_header = header[1] == b"1"
    words: dict[str, int] = {}
    numbers, rows, repeated = array("f"), array("q"), 0
    for row, line in enumerate(chain(first, file), 1):
        if not line.strip() or (row == 1 and has_header):
            continue
        cells = line.rstrip().rsplit(b" ", size)
        try:
            word = cells[0].decode()
            values = [*map(float, cells[1:])]
        except ValueError:
            values = []
        if not size or len(values) != size or (" " in word and _is_no_word(word)):
            raise _bad_line(path, row, _problem(line, size))
        if word in words:
            repeated += 1
            continue
        words[word] = len(words)
        numbers.extend(values)
        rows.append(row)
    if not words:
        raise DataError(f"{path} has no vectors. Download it again.")
    if has_header and header != [b"%d" % (len(words) + repeated), b"%d" % size]:
        announced = f"{header[0].decode()} words of {header[1].decode()} numbers are announced"
        follow = f"{len(words) + repeated} of {size} follow: the file was cut, or line 1 is wrong"
        raise _bad_line(path, 1, f"{announced}, and {follow}")
    vectors = np.frombuffer(numbers, "float32").reshape(-1, size)
    bad = np.flatnonzero(~np.isfinite(vectors.sum(axis=1, dtype="float64")))
    if len(bad):
        word = list(words)[bad[0]]
        raise _bad_line(path, rows[bad[0]], f"{word!r:.60} is not followed by numbers")
    if repeated:
        logger.warning("%s: %d words come twice; the first one counts.", path, repeated)
    return words, vectors


def _size(lines: list[bytes]) -> int:
    """How many numbers most of the lines end with; one cell at least is the word."""
    counts = Counter()
    for line in lines:
        cells = line.rstrip().split(b" ")
        count = 0
        while count < len(cells) - 1 and _is_number(cells[-1 - count]):
            count += 1
        counts[count] += count > 0
    return counts.most_common(1)[0][0] if counts else 0


def _is_number(text: bytes | str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _is_no_word(text: str) -> bool:
    """Whether there are numbers too many, or lines that end with carriage returns alone."""
    return "\r" in text or _is_number(text.rsplit(" ", 1)[1])


def _bad_line(path: Path, row: int, problem: str) -> DataError:
    return DataError(
        f"{path}, line {row}: {problem}. Wanted: a word and its numbers, with single blanks "
        "between. Restore the original file."
    )


def _problem(line: bytes, size: int) -> str:
    try:
        text = line.rstrip().decode()
    except UnicodeDecodeError:
        return "not UTF-8 (or a binary file: only the text format is read)"
    if "\0" in text:
        return "a null byte (a binary file? only the text format is read)"
    if "\r" in text:
        return "a carriage return within the line: lines must end with a line feed"
    word, *values = text.split(" ")
    if not size or len(values) == size or not any(map(_is_number, values)):
        return f"{word!r:.60} is not followed by numbers"
    return f"{word!r:.60} has {len(values)} numbers, the other words have {size}"
