"""BLEU, of a set of captions and of single ones."""

from collections.abc import Sequence

import numpy as np
from nltk.translate.bleu_score import corpus_bleu

from common.errors import ConfigError
from common.evaluation.captions.checks import (
    Caption,
    References,
    check_captions,
    flatten,
    images_of,
)
from common.evaluation.captions.ngrams import ORDERS, followed, lengths_of, number_words, words_of

BLEUS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
# How `SentenceBleu` treats an order of n-grams without a match, by the names of nltk's methods.
SMOOTHINGS = {
    "method1": "0.1 matches in place of none",
    "method2": "one match and one n-gram more, but for 1-grams (Lin and Och, 2004)",
}


def bleu(captions: Sequence[Caption], references: References) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of the whole set, 0 to 100, by nltk's `corpus_bleu`.

    BLEU-n is `exp(min(0, 1 - r / c))` times the geometric mean of the precisions of 1-grams to
    n-grams, matches and totals being summed over the set; c is the number of words, r the sum of
    the closest reference lengths. 0 where no n-gram of some order matches: nothing is smoothed.
    As in nltk, a caption of fewer than n words counts as one n-gram that does not match, while
    `pycocoevalcap` counts none: with two captions of fewer than four words among 299, it gives
    about 0.01 points more.
    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002).

    Raises:
        DataError: for texts instead of lists of words, an image without references, or numbers
            of captions and images that differ.
    """
    check_captions(captions, references)
    missing = [False] * ORDERS

    def no_smoothing(precisions, **_):
        # Of a zero nltk makes a tiny number and a warning.
        missing[:] = [not precision for precision in precisions]
        return [precision or 1 for precision in precisions]

    weights = [(1 / n,) * n for n in range(1, ORDERS + 1)]
    scores = corpus_bleu(references, captions, weights, no_smoothing)
    return {
        name: 0.0 if any(missing[:n]) else 100 * float(score)
        for n, (name, score) in enumerate(zip(BLEUS, scores, strict=True), start=1)
    }


class SentenceBleu:
    """BLEU-4 of each caption alone, smoothed: what a reward needs, for many captions at once.

    The n-grams of the references are counted once. Scores equal nltk's `sentence_bleu` with the
    smoothing of that name, 0 to 1.

    A caption of three words has no 4-gram, and most captions match none: without smoothing they
    would all score 0 and a reward would not tell them apart. Chen and Cherry, "A Systematic
    Comparison of Smoothing Techniques for Sentence-Level BLEU" (2014).

    Args:
        references: For each image lists of words.
        smoothing: One of `SMOOTHINGS`.

    Raises:
        DataError: for texts instead of lists of words, or an image without references.
        ConfigError: for an unknown smoothing.
    """

    def __init__(self, references: References, smoothing: str = "method2"):
        if smoothing not in SMOOTHINGS:
            raise ConfigError(
                f"smoothing={smoothing!r} is unknown. Choose one of {tuple(SMOOTHINGS)}."
            )
        self.smoothing = smoothing
        captions, sizes = flatten(references)
        self._ids = number_words(captions, limit=None)
        row, word = words_of(captions, self._ids)
        # A tree for each image, with a branch for each n-gram: its node is known by the node of
        # the n-gram without the last word, and that word.
        end = np.arange(len(word))
        node = np.repeat(np.arange(len(sizes)), sizes)[row]  # the roots: the images
        self._branches, self._most = [], []
        for n in range(ORDERS):
            if n:
                inside = followed(row, end)
                end, node = end[inside] + 1, node[inside]
            branches, node = np.unique(self._branch(node, word[end]), return_inverse=True)
            # Of every n-gram, the most that one reference of the image holds.
            _, of_node, count = _count_pairs(row[end], node, len(branches))
            most = np.zeros(len(branches), int)
            np.maximum.at(most, of_node, count)
            self._branches.append(branches)
            self._most.append(most)
        # Shorter ones first: of two lengths that are as close, the shorter one counts.
        self._length = np.full((len(sizes), max(sizes)), np.iinfo("int32").max)
        for lengths, of_image in zip(self._length, references, strict=True):
            lengths[: len(of_image)] = sorted(map(len, of_image))

    def __len__(self) -> int:
        return len(self._length)

    def score(
        self, captions: Sequence[Caption], images: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """The score of each caption, 0 to 1; arguments and errors as `CiderD.score`."""
        counts = self.counts(captions, images).astype(float)
        matches, totals = counts[:, :ORDERS], counts[:, ORDERS : 2 * ORDERS]
        if self.smoothing == "method1":
            some = matches[:, :1] > 0  # not one word right stays 0
            matches[(matches == 0) & some] = 0.1
        else:
            matches[:, 1:] += 1
            totals[:, 1:] += 1
        return bleu_of(counts)["bleu_4"] / 100

    def counts(
        self, captions: Sequence[Caption], images: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """What BLEU sums, (N, 10): matches and totals by order, length, closest reference length.

        Arguments and errors as `CiderD.score`.
        """
        images = images_of(captions, images, len(self), self._ids)
        row, word = words_of(captions, self._ids)
        end, node = np.arange(len(word)), images[row]
        matches = np.zeros((len(captions), ORDERS), int)
        for n, (branches, most) in enumerate(zip(self._branches, self._most, strict=True)):
            if n:  # only what began like a reference can go on like one
                inside = followed(row, end)
                end, node = end[inside] + 1, node[inside]
            branch = self._branch(node, word[end])
            node = np.searchsorted(branches, branch).clip(max=len(branches) - 1)
            held = branches[node] == branch
            end, node = end[held], node[held]
            caption, of_node, count = _count_pairs(row[end], node, len(branches))
            matched = np.minimum(count, most[of_node])
            matches[:, n] = np.bincount(caption, matched, len(captions))
        lengths = lengths_of(captions)
        # As nltk: at least 1, even where a caption is too short to hold an n-gram.
        totals = np.maximum(lengths[:, None] - np.arange(ORDERS), 1)
        candidates = self._length[images]
        closest = np.abs(candidates - lengths[:, None]).argmin(axis=1)
        closest = candidates[np.arange(len(captions)), closest]
        return np.column_stack([matches, totals, lengths, closest])

    def _branch(self, node, word) -> np.ndarray:
        return node * (len(self._ids) + 1) + word


def bleu_of(sums) -> dict[str, np.ndarray]:
    """BLEU of `SentenceBleu.counts`, summed or smoothed, (..., 10)."""
    matches, totals = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    length, closest = sums[..., -2], np.asarray(sums[..., -1], float)
    brevity = np.minimum(0, 1 - closest / np.maximum(length, 1))
    logs = np.log(np.where(matches > 0, matches, 1) / totals).cumsum(axis=-1)
    some = np.logical_and.accumulate(matches > 0, axis=-1)
    return {
        name: np.where(some[..., n], 100 * np.exp(brevity + logs[..., n] / (n + 1)), 0)
        for n, name in enumerate(BLEUS)
    }


def _count_pairs(first, second, size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of numbers once, and how often it comes; the second ones are below `size`."""
    pairs, count = np.unique(first * size + second, return_counts=True)
    return pairs // size, pairs % size, count
