"""CIDEr-D, of a set of captions and of single ones."""

import math
from collections.abc import Sequence

import numpy as np

from common.evaluation.captions.checks import (
    Caption,
    References,
    check_captions,
    flatten,
    images_of,
)
from common.evaluation.captions.ngrams import ORDERS, NGrams, changes, lengths_of, number_words

_SIGMA = 6.0  # words


class CiderD:
    """CIDEr-D of captions: how much they share with the references, rare words counting more.

    1. A caption becomes a vector per order n = 1..4: how often it holds each n-gram, times
       `idf = log(images / images whose references hold the n-gram)`.
    2. `sim_n = min(v, r) . r / (|v| |r|)` with the vector r of a reference: a cosine in which
       repeating a word does not pay.
    3. `score = 10 mean_n mean_r exp(-(difference of lengths)^2 / (2 sigma^2)) sim_n`,
       with a `sigma` of six words.

    Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation" (2015),
    section 5. Scores equal those of `pycocoevalcap.cider.cider.Cider`, which computes CIDEr-D
    under the name of CIDEr (it clips, and has the length penalty).

    The vectors of the references are made once, so that a reward can be had for every batch.

    Args:
        references: For each image lists of words.
        corpus: CIDEr-D of other images, whose `idf` is taken; by default it is counted on
            `references`, as papers do: of one image every `idf` is 0.

    Raises:
        DataError: for texts instead of lists of words, or an image without references.
    """

    def __init__(self, references: References, corpus: "CiderD | None" = None):
        captions, sizes = flatten(references)
        self._first = np.concatenate([[0], np.cumsum(sizes)])  # reference of each image
        self._ids = number_words(captions, None if corpus is None else corpus._ids)
        grams = NGrams(captions, self._ids)
        if corpus is None:
            image = np.repeat(np.arange(len(sizes)), sizes)[grams.row]
            self._keys, documents = np.unique(_first_of_each(image, grams.key), return_counts=True)
            self._unseen = math.log(len(sizes))
            self._idf = self._unseen - np.log(documents)
        else:
            self._keys, self._unseen, self._idf = corpus._keys, corpus._unseen, corpus._idf
        self._key, self._weight = grams.key, grams.count * self._idf_of(grams.key)
        self._norm = _norms(grams, self._weight, len(captions))
        self._start = np.searchsorted(grams.row, np.arange(len(captions) + 1))
        self._length = lengths_of(captions)

    def __len__(self) -> int:
        return len(self._first) - 1

    def score(
        self, captions: Sequence[Caption], images: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """The score of each caption, 0 to 10; their mean is that of the set.

        Args:
            captions: Lists of words.
            images: Which image each caption describes, as its place in `references`; an image may
                come several times. By default one caption for each image, in order.

        Raises:
            DataError: for texts instead of lists of words, or a number of captions that is not
                that of the images.
            ConfigError: for an image that does not exist.
        """
        images = images_of(captions, images, len(self), self._ids)
        grams = NGrams(captions, number_words(captions, self._ids))
        weight = grams.count * self._idf_of(grams.key)
        norm = _norms(grams, weight, len(captions))
        # A pair is a caption with one of its references, an entry one of the latter's n-grams.
        caption, reference = _ranges(self._first[images], self._first[images + 1])
        pair, entry = _ranges(self._start[reference], self._start[reference + 1])
        place, found = grams.find(caption[pair], self._key[entry])
        pair, place, other = pair[found], place[found], self._weight[entry[found]]
        product = np.bincount(
            pair * ORDERS + grams.order[place],
            np.minimum(weight[place], other) * other,
            len(caption) * ORDERS,
        ).reshape(-1, ORDERS)
        scale = norm[caption] * self._norm[reference]
        similarity = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
        # As pycocoevalcap: it counts 2-grams, so that no word and one are as long.
        length = np.maximum(lengths_of(captions), 1)[caption]
        difference = length - np.maximum(self._length, 1)[reference]
        penalty = np.exp(-(difference**2) / (2 * _SIGMA**2))
        total = np.bincount(caption, similarity.mean(axis=1) * penalty, len(captions))
        return 10 * total / np.bincount(caption, minlength=len(captions))

    def _idf_of(self, key) -> np.ndarray:
        place = np.searchsorted(self._keys, key).clip(max=len(self._keys) - 1)
        return np.where(self._keys[place] == key, self._idf[place], self._unseen)


def cider_d(captions: Sequence[Caption], references: References) -> float:
    """Mean CIDEr-D times 100, as papers report it: 52.3 where `CiderD` gives 0.523 (of 10)."""
    check_captions(captions, references)
    return 100 * float(CiderD(references).score(captions).mean())


def _first_of_each(image, key) -> np.ndarray:
    """The keys of every image, each once per image."""
    sort = np.lexsort((key, image))
    image, key = image[sort], key[sort]
    return key[changes(image) | changes(key)]


def _norms(grams, weight, rows) -> np.ndarray:
    """Lengths of the vectors, (rows, orders)."""
    squares = np.bincount(grams.row * ORDERS + grams.order, weight**2, rows * ORDERS)
    return np.sqrt(squares).reshape(-1, ORDERS)


def _ranges(start, stop) -> tuple[np.ndarray, np.ndarray]:
    """All numbers from `start[i]` to before `stop[i]`, and the i that each belongs to."""
    sizes = stop - start
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) + (start - np.cumsum(sizes) + sizes)[owner]
