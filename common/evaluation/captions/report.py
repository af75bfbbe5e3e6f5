"""All scores of a set of captions, their intervals, and what people score."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from common.data.vocabulary import BAD_ENDINGS
from common.errors import DataError
from common.evaluation.bootstrap import compare, intervals, resample
from common.evaluation.captions.bleu_score import SentenceBleu, bleu, bleu_of
from common.evaluation.captions.checks import (
    Caption,
    References,
    check_captions,
    check_references,
    check_words,
    flatten,
)
from common.evaluation.captions.cider import CiderD, cider_d
from common.evaluation.captions.ngrams import followed, lengths_of, number_words, words_of
from common.evaluation.captions.rouge_meteor import meteor, rouge_l


def caption_scores(
    captions: Sequence[Caption],
    references: References,
    train_references: References | None = None,
) -> dict[str, float | None]:
    """All there is to say on a set of captions in numbers.

    Returns:
        `bleu_1` to `bleu_4`, `rouge_l`, `meteor` (each 0 to 100; `meteor` is `None` where it
        cannot be computed) and `cider_d` (times 100, see `cider_d`);
        `bad_endings`: share of captions that end with one of `BAD_ENDINGS`, or are empty;
        `distinct`: share of different captions, `words_used`: number of different words,
        `length`: mean number of words;
        with `train_references`, `longest_copy`: mean length of `longest_copy`, and `copied`: share
        of captions that are, as a whole, a training caption.

    Raises:
        DataError: as `bleu`.
    """
    scores = bleu(captions, references)
    scores["cider_d"] = cider_d(captions, references)
    for name, values in _shares(captions, references).items():
        scores[name] = None if values is None else float(values.mean())
    texts = [tuple(caption) for caption in captions]
    scores["distinct"] = len(set(texts)) / len(texts)
    scores["words_used"] = len({word for text in texts for word in text})
    scores["length"] = float(lengths_of(captions).mean())
    if train_references is not None:
        scores["longest_copy"] = float(longest_copy(captions, train_references).mean())
        known = {tuple(text) for of_image in train_references for text in of_image}
        scores["copied"] = sum(text in known for text in texts) / len(texts)
    return scores


def longest_copy(captions: Sequence[Caption], train_references: References) -> np.ndarray:
    """For each caption, the length of its longest run of words that stands in a training caption.

    Runs are lengthened word by word, all at once: of the places in all texts, those stay whose
    run of n words is found in the captions and in the training captions.

    Raises:
        DataError: for texts instead of lists of words.
    """
    check_words(captions)
    texts = [*captions, *flatten(train_references, "the training captions")[0]]
    ids = number_words(texts, limit=None)
    row, word = words_of(texts, ids)
    longest = np.zeros(len(captions), int)
    end, run = np.arange(len(word)), word  # where each run ends, and its number
    length = 0
    while len(end):
        length += 1
        own = row[end] < len(captions)
        kept = np.isin(run, np.intersect1d(run[own], run[~own]))
        longest[row[end[kept & own]]] = length
        kept &= followed(row, end)  # one word further in the same text
        end = end[kept] + 1
        run = np.unique(run[kept], return_inverse=True)[1] * (len(ids) + 1) + word[end]
    return longest


def with_several(references: References) -> tuple[np.ndarray, list]:
    """The images with two captions or more, which can be judged against each other.

    Returns:
        Their places in `references`; and of each its first captions, as many as all of them have.
    """
    several = [i for i, of_image in enumerate(references) if len(of_image) > 1]
    least = min((len(references[i]) for i in several), default=0)
    return np.array(several, int), [list(references[i][:least]) for i in several]


def human_scores(
    references: References,
    captions: Sequence[Caption] | None = None,
) -> dict[str, float | None]:
    """What people score: each reference of an image in turn is judged against the others.

    Means of `caption_scores` over the turns. With five references a person is judged against
    four, while a machine is usually judged against five, which is easier: BLEU and ROUGE-L take
    the best of the references. To compare fairly, judge the machine against the same four.

    Args:
        references: For each image lists of words, of the same number for all images, as
            `with_several` gives them.
        captions: To be judged in place of the reference that is left out.

    Raises:
        DataError: as `bleu`, or if there are not equally many references, two or more.
    """
    check_references(references)
    counts = {len(of_image) for of_image in references}
    if len(counts) > 1 or min(counts) < 2:
        raise DataError(
            "To judge each reference against the others, all images need the same number of them, "
            f"two or more. Received: {', '.join(map(str, sorted(counts)))}"
        )
    turns = []
    for turn in range(counts.pop()):
        judged = [of_image[turn] for of_image in references] if captions is None else captions
        others = [[*of_image[:turn], *of_image[turn + 1 :]] for of_image in references]
        turns.append(caption_scores(judged, others))
    return {
        name: None if value is None else float(np.mean([scores[name] for scores in turns]))
        for name, value in turns[0].items()
    }


def caption_intervals(
    captions: Sequence[Caption],
    references: References,
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores with intervals from a bootstrap over images.

    1. Draw as many images as there are, with replacement; compute every score on them; repeat
       `samples` times. BLEU needs ten numbers of each image only (matches and totals of the four
       orders, both lengths), which are summed. CIDEr-D keeps the `idf` of the whole set.
    2. The interval of 95 % cuts 2.5 % of the scores off at either end (percentiles).

    It tells how far a score would move on other images like these, not with other seeds of the
    training. Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        captions, references: See the package's docstring.
        samples: Resamples.
        seed: Of the resamples.

    Returns:
        A row per metric, as in `caption_scores`: `value`, `low` and `high`.

    Raises:
        DataError: as `bleu`, or with fewer than two images.
        ConfigError: for no sample.
    """
    weights = _resample_images(len(captions), samples, seed)
    scores = _resampled(captions, references, weights)
    return intervals(scores).drop(columns="undefined")


def compare_captions(
    methods: Mapping[str, Sequence[Caption]],
    references: References,
    reference: str,
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Several captioners on the same images, and their differences to one of them.

    Each resample of `caption_intervals` is given to all. An image that is hard for one is hard for
    all, so their scores move together: judge by the interval of the difference. Does it contain 0?

    Args:
        methods: Captions by the name of the captioner.
        references: See the package's docstring.
        reference: The name that all are compared with.
        samples, seed: As in `caption_intervals`.

    Returns:
        A row per captioner and metric: `method`, `metric`, `value`, `low`, `high`, `difference`
        (to the reference), `difference_low`, `difference_high`.

    Raises:
        ConfigError, DataError: as `caption_intervals`, or for a missing name.
    """
    weights = _resample_images(len(references), samples, seed)
    score = partial(_resampled, references=references, weights=weights)
    return compare(methods, reference, score).drop(columns="undefined")


def _shares(captions, references) -> dict[str, np.ndarray | None]:
    """The scores that are means over captions, (N,) each, in the unit of `caption_scores`."""
    from_nltk = meteor(captions, references)
    bad = [not caption or caption[-1] in BAD_ENDINGS for caption in captions]
    return {
        "rouge_l": 100 * rouge_l(captions, references),
        "meteor": None if from_nltk is None else 100 * from_nltk,
        "bad_endings": np.array(bad, float),
    }


def _resampled(captions, references, weights) -> dict[str, np.ndarray]:
    """By metric (1 + samples,) values: on all images, then on each resample."""
    check_captions(captions, references)
    scores = bleu_of(weights @ SentenceBleu(references).counts(captions))
    means = {"cider_d": 100 * CiderD(references).score(captions), **_shares(captions, references)}
    for name, values in means.items():
        if values is not None:
            scores[name] = weights @ values / len(captions)
    return scores


def _resample_images(images, samples, seed) -> np.ndarray:
    if images < 2:
        raise DataError("A bootstrap over images needs two of them at least.")
    return resample(images, samples, seed)
