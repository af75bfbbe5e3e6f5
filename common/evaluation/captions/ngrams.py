"""The words of captions as numbers, and their n-grams."""

from itertools import chain, repeat

import numpy as np

from common.errors import DataError

ORDERS = 4  # of n-grams, in BLEU and in CIDEr-D
_BITS = 16  # of a word's number: four of them fill 64


class NGrams:
    """The 1-grams to 4-grams of many captions: a row for each that a caption holds.

    Attributes:
        row: Number of the caption; sorted.
        key: The numbers of the words packed into one, so that each n-gram has its own; sorted
            within a caption.
        order: 0 to 3 for 1-grams to 4-grams.
        count: How often the caption holds it.
    """

    def __init__(self, captions, ids):
        row, word = words_of(captions, ids)
        word = word.astype("uint64")
        place = np.arange(len(row)) - np.searchsorted(row, row)
        rows, keys, key = [], [], np.zeros(len(row), "uint64")
        for n in range(ORDERS):  # `key` of what ends at each word
            key = np.append(key[-1:], key[:-1]) << np.uint64(_BITS) | word
            rows.append(row[place >= n])
            keys.append(key[place >= n])
        row, key = np.concatenate(rows), np.concatenate(keys)
        sort = np.lexsort((key, row))
        row, key = row[sort], key[sort]
        first = np.flatnonzero(changes(row) | changes(key))
        self.row, self.key = row[first], key[first]
        self.count = np.diff(np.append(first, len(row)))
        powers = np.uint64(1) << np.arange(1, ORDERS, dtype="uint64") * np.uint64(_BITS)
        self.order = np.searchsorted(powers, self.key, side="right")

    def find(self, row, key) -> tuple[np.ndarray, np.ndarray]:
        """Where caption `row` holds the n-gram `key`, and whether it does."""
        if not len(self.key):
            return np.zeros(len(key), int), np.zeros(len(key), bool)
        known = np.unique(self.key)
        own = self.row * len(known) + np.searchsorted(known, self.key)
        code = np.searchsorted(known, key).clip(max=len(known) - 1)
        wanted = row * len(known) + code
        place = np.searchsorted(own, wanted).clip(max=len(own) - 1)
        return place, (known[code] == key) & (own[place] == wanted)


def number_words(captions, ids=None, limit=2**_BITS - 1) -> dict[str, int]:
    """A number from 1 for each word, those in `ids` keeping theirs."""
    ids = dict(ids or {})
    for word in dict.fromkeys(chain.from_iterable(captions)):
        ids.setdefault(word, len(ids) + 1)
    if limit and len(ids) > limit:
        raise DataError(f"More than {limit:,} different words are too many for CIDEr-D and BLEU.")
    return ids


def words_of(captions, ids) -> tuple[np.ndarray, np.ndarray]:
    """The caption and the number of every word, 0 for one that has none."""
    lengths = lengths_of(captions)
    numbers = map(ids.get, chain.from_iterable(captions), repeat(0))
    word = np.fromiter(numbers, "int64", lengths.sum())
    return np.repeat(np.arange(len(captions)), lengths), word


def followed(row, end) -> np.ndarray:
    """Whether a word of the same text follows each of the words at `end`."""
    return np.append(row, -1)[end + 1] == row[end]


def lengths_of(captions) -> np.ndarray:
    """Numbers of words."""
    return np.fromiter(map(len, captions), int, len(captions))


def changes(values) -> np.ndarray:
    """Whether each value differs from the one before; the first one does."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]
