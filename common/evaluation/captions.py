"""What to measure on captions: how near they are to what people wrote, and how they are made.

Everywhere below, N is the number of images. `captions` are N lists of words, one per image;
`references` are, for each image, the lists of words that people wrote. Both come from
`common.data.vocabulary.normalise` (`CaptionData.references` is made by it). Texts that are not
split into words are refused: nltk would take their letters for words and give likely numbers.
No Keras here: words in, numbers and tables out.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, repeat

import numpy as np
import pandas as pd
from nltk.translate.bleu_score import corpus_bleu

from common.data.vocabulary import BAD_ENDINGS
from common.errors import ConfigError, DataError

Caption = Sequence[str]
References = Sequence[Sequence[Caption]]

BLEUS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")

_ORDERS = len(BLEUS)  # of n-grams, in BLEU and in CIDEr-D
_BITS = 16  # of a word's number: four of them fill 64


def bleu(captions: Sequence[Caption], references: References) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of the whole set, 0 to 100, by nltk's `corpus_bleu`.

    BLEU-n is `exp(min(0, 1 - r / c))` times the geometric mean of the precisions of 1-grams to
    n-grams, matches and totals being summed over the set; c is the number of words, r the sum of
    the closest reference lengths. 0 where no n-gram of some order matches: nothing is smoothed.
    As in nltk, a caption of fewer than n words counts as one n-gram that does not match; the
    script of MSCOCO leaves it out.
    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002).

    Raises:
        DataError: for texts instead of lists of words, an image without references, or numbers
            of captions and images that differ.
    """
    check_captions(captions, references)
    missing = [False] * _ORDERS

    def no_smoothing(precisions, **_):
        # Of a zero nltk makes a tiny number and a warning.
        missing[:] = [not precision for precision in precisions]
        return [precision or 1 for precision in precisions]

    weights = [(1 / n,) * n for n in range(1, _ORDERS + 1)]
    scores = corpus_bleu(references, captions, weights, no_smoothing)
    return {
        name: 0.0 if any(missing[:n]) else 100 * float(score)
        for n, (name, score) in enumerate(zip(BLEUS, scores, strict=True), start=1)
    }


# How `SentenceBleu` treats an order of n-grams without a match, by the names of nltk's methods.
SMOOTHINGS = {
    "method1": "0.1 matches in place of none",
    "method2": "one match and one n-gram more, but for 1-grams (Lin and Och, 2004)",
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
        captions, sizes = _flatten(references)
        self._ids = _number_words(captions, limit=None)
        row, word = _words_of(captions, self._ids)
        # A tree for each image, with a branch for each n-gram: its node is known by the node of
        # the n-gram without the last word, and that word.
        end = np.arange(len(word))
        node = np.repeat(np.arange(len(sizes)), sizes)[row]  # the roots: the images
        self._branches, self._most = [], []
        for n in range(_ORDERS):
            if n:
                inside = _followed(row, end)
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
        matches, totals = counts[:, :_ORDERS], counts[:, _ORDERS : 2 * _ORDERS]
        if self.smoothing == "method1":
            some = matches[:, :1] > 0  # not one word right stays 0
            matches[(matches == 0) & some] = 0.1
        else:
            matches[:, 1:] += 1
            totals[:, 1:] += 1
        return _bleu_of(counts)["bleu_4"] / 100

    def counts(
        self, captions: Sequence[Caption], images: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """What BLEU sums, (N, 10): matches and totals by order, length, closest reference length.

        Arguments and errors as `CiderD.score`.
        """
        images = _images_of(captions, images, len(self), self._ids)
        row, word = _words_of(captions, self._ids)
        end, node = np.arange(len(word)), images[row]
        matches = np.zeros((len(captions), _ORDERS), int)
        for n, (branches, most) in enumerate(zip(self._branches, self._most, strict=True)):
            if n:  # only what began like a reference can go on like one
                inside = _followed(row, end)
                end, node = end[inside] + 1, node[inside]
            branch = self._branch(node, word[end])
            node = np.searchsorted(branches, branch).clip(max=len(branches) - 1)
            held = branches[node] == branch
            end, node = end[held], node[held]
            caption, of_node, count = _count_pairs(row[end], node, len(branches))
            matched = np.minimum(count, most[of_node])
            matches[:, n] = np.bincount(caption, matched, len(captions))
        lengths = _lengths(captions)
        # As nltk: at least 1, even where a caption is too short to hold an n-gram.
        totals = np.maximum(lengths[:, None] - np.arange(_ORDERS), 1)
        candidates = self._length[images]
        closest = np.abs(candidates - lengths[:, None]).argmin(axis=1)
        closest = candidates[np.arange(len(captions)), closest]
        return np.column_stack([matches, totals, lengths, closest])

    def _branch(self, node, word) -> np.ndarray:
        return node * (len(self._ids) + 1) + word


class CiderD:
    """CIDEr-D of captions: how much they share with the references, rare words counting more.

    1. A caption becomes a vector per order n = 1..4: how often it holds each n-gram, times
       `idf = log(images / images whose references hold the n-gram)`.
    2. `sim_n = min(v, r) . r / (|v| |r|)` with the vector r of a reference: a cosine in which
       repeating a word does not pay.
    3. `score = 10 mean_n mean_r exp(-(difference of lengths)^2 / (2 sigma^2)) sim_n`.

    Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation" (2015),
    section 5. Scores equal those of `pycocoevalcap.cider.cider.Cider`, which computes CIDEr-D
    under the name of CIDEr (it clips, and has the length penalty).

    The vectors of the references are made once, so that a reward can be had for every batch.

    Args:
        references: For each image lists of words.
        corpus: The references of the images on which `idf` is counted, as those of the training
            images; by default `references`, as papers do. Of one image every `idf` is 0.
        sigma: In words.

    Raises:
        DataError: for texts instead of lists of words, or an image without references.
        ConfigError: if sigma is not positive.
    """

    def __init__(
        self, references: References, corpus: References | None = None, sigma: float = 6.0
    ):
        if not sigma > 0:
            raise ConfigError(f"sigma must be more than 0. Received: {sigma}")
        self.sigma = sigma
        captions, sizes = _flatten(references)
        self._first = np.concatenate([[0], np.cumsum(sizes)])  # reference of each image
        self._ids = _number_words(captions)
        if corpus is None:
            texts, sizes_of_texts = captions, sizes
        else:
            texts, sizes_of_texts = _flatten(corpus, "the corpus")
            self._ids = _number_words(texts, self._ids)
        grams = _Grams(captions, self._ids)
        held = grams if corpus is None else _Grams(texts, self._ids)
        image = np.repeat(np.arange(len(sizes_of_texts)), sizes_of_texts)[held.row]
        self._keys, documents = np.unique(_first_of_each(image, held.key), return_counts=True)
        self._unseen = math.log(len(sizes_of_texts))
        self._idf = self._unseen - np.log(documents)
        self._key, self._weight = grams.key, grams.count * self._idf_of(grams.key)
        self._norm = _norms(grams, self._weight, len(captions))
        self._start = np.searchsorted(grams.row, np.arange(len(captions) + 1))
        self._length = _lengths(captions)

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
        images = _images_of(captions, images, len(self), self._ids)
        grams = _Grams(captions, _number_words(captions, self._ids))
        weight = grams.count * self._idf_of(grams.key)
        norm = _norms(grams, weight, len(captions))
        # A pair is a caption with one of its references, an entry one of the latter's n-grams.
        caption, reference = _ranges(self._first[images], self._first[images + 1])
        pair, entry = _ranges(self._start[reference], self._start[reference + 1])
        place, found = grams.find(caption[pair], self._key[entry])
        pair, place, other = pair[found], place[found], self._weight[entry[found]]
        product = np.bincount(
            pair * _ORDERS + grams.order[place],
            np.minimum(weight[place], other) * other,
            len(caption) * _ORDERS,
        ).reshape(-1, _ORDERS)
        scale = norm[caption] * self._norm[reference]
        similarity = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
        # As pycocoevalcap: it counts 2-grams, so that no word and one are as long.
        length = np.maximum(_lengths(captions), 1)[caption]
        difference = length - np.maximum(self._length, 1)[reference]
        penalty = np.exp(-(difference**2) / (2 * self.sigma**2))
        total = np.bincount(caption, similarity.mean(axis=1) * penalty, len(captions))
        return 10 * total / np.bincount(caption, minlength=len(captions))

    def _idf_of(self, key) -> np.ndarray:
        place = np.searchsorted(self._keys, key).clip(max=len(self._keys) - 1)
        return np.where(self._keys[place] == key, self._idf[place], self._unseen)


def cider_d(captions: Sequence[Caption], references: References) -> float:
    """Mean CIDEr-D times 100, as papers report it: 52.3 where `CiderD` gives 0.523 (of 10)."""
    check_captions(captions, references)
    return 100 * float(CiderD(references).score(captions).mean())


def rouge_l(captions: Sequence[Caption], references: References) -> np.ndarray:
    """ROUGE-L of each caption, 0 to 1: the longest common subsequence with its references.

    `(1 + b^2) P R / (R + b^2 P)` with b = 1.2; P is the largest share of the caption's words that
    is common, R the largest share of a reference's, not always the same one. As in
    `pycocoevalcap.rouge.rouge.Rouge`. Lin, "ROUGE: A Package for Automatic Evaluation of
    Summaries" (2004).

    Raises:
        DataError: as `bleu`.
    """
    check_captions(captions, references)
    squared = 1.2**2
    scores = np.zeros(len(captions))
    for i, (caption, of_image) in enumerate(zip(captions, references, strict=True)):
        common = [_common_subsequence(caption, reference) for reference in of_image]
        if not any(common):
            continue
        precision = max(common) / len(caption)
        recall = max(c / len(reference) for c, reference in zip(common, of_image, strict=True))
        scores[i] = (1 + squared) * precision * recall / (recall + squared * precision)
    return scores


def meteor(captions: Sequence[Caption], references: References) -> np.ndarray | None:
    """METEOR of each caption by nltk, 0 to 1; `None` without WordNet (see `what_is_missing`).

    This is METEOR of 2005 (exact words, stems, synonyms). Papers report that of 2014, a Java
    program with paraphrases whose numbers differ: compare only among your own.

    Raises:
        DataError: as `bleu`.
    """
    check_captions(captions, references)
    if _why_no_wordnet():
        return None
    from nltk.translate.meteor_score import meteor_score

    pairs = zip(captions, references, strict=True)
    return np.array([meteor_score(of_image, caption) for caption, of_image in pairs])


def what_is_missing() -> dict[str, str]:
    """Which scores cannot be had here, and why: to be printed below a table."""
    reason = _why_no_wordnet()
    return {"meteor": reason} if reason else {}


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
    scores["length"] = float(_lengths(captions).mean())
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
    _check_words(captions)
    texts = [*captions, *_flatten(train_references, "the training captions")[0]]
    ids = _number_words(texts, limit=None)
    row, word = _words_of(texts, ids)
    row = np.append(row, -1)
    longest = np.zeros(len(captions), int)
    end, run = np.arange(len(word)), word  # where each run ends, and its number
    length = 0
    while len(end):
        length += 1
        own = row[end] < len(captions)
        kept = np.isin(run, np.intersect1d(run[own], run[~own]))
        longest[row[end[kept & own]]] = length
        kept &= row[end + 1] == row[end]  # one word further in the same text
        end = end[kept] + 1
        run = np.unique(run[kept], return_inverse=True)[1] * (len(ids) + 1) + word[end]
    return longest


def human_scores(
    references: References,
    captions: Sequence[Caption] | None = None,
    train_references: References | None = None,
) -> dict[str, float | None]:
    """What people score: each reference of an image in turn is judged against the others.

    Means of `caption_scores` over the turns. With five references a person is judged against
    four, while a machine is usually judged against five, which is easier: BLEU and ROUGE-L take
    the best of the references. To compare fairly, judge the machine against the same four.

    Args:
        references: For each image lists of words, of the same number for all images.
        captions: To be judged in place of the reference that is left out.
        train_references: See `caption_scores`.

    Raises:
        DataError: as `bleu`, or if there are not equally many references, two or more.
    """
    _check_references(references)
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
        turns.append(caption_scores(judged, others, train_references))
    return {
        name: None if value is None else float(np.mean([scores[name] for scores in turns]))
        for name, value in turns[0].items()
    }


def caption_intervals(
    captions: Sequence[Caption],
    references: References,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores with intervals from a bootstrap over images.

    1. Draw as many images as there are, with replacement; compute every score on them; repeat
       `samples` times. BLEU needs ten numbers of each image only (matches and totals of the four
       orders, both lengths), which are summed. CIDEr-D keeps the `idf` of the whole set.
    2. The interval cuts `(1 - confidence) / 2` of the scores off at either end (percentiles).

    It tells how far a score would move on other images like these, not with other seeds of the
    training. Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        captions, references: See the module's docstring.
        samples: Resamples.
        confidence: Of the interval.
        seed: Of the resamples.

    Returns:
        A row per metric, as in `caption_scores`: `value`, `low` and `high`.

    Raises:
        DataError: as `bleu`, or with fewer than two images.
        ConfigError: for no sample, or a confidence outside 0..1.
    """
    weights = _resample(len(captions), samples, confidence, seed)
    scores = _resampled(captions, references, weights)
    rows = {name: _interval(values, confidence) for name, values in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def compare_captions(
    methods: Mapping[str, Sequence[Caption]],
    references: References,
    reference: str,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Several captioners on the same images, and their differences to one of them.

    Each resample of `caption_intervals` is given to all. An image that is hard for one is hard for
    all, so their scores move together: judge by the interval of the difference. Does it contain 0?

    Args:
        methods: Captions by the name of the captioner.
        references: See the module's docstring.
        reference: The name that all are compared with.
        samples, confidence, seed: As in `caption_intervals`.

    Returns:
        A row per captioner and metric: `method`, `metric`, `value`, `low`, `high`, `difference`
        (to the reference), `difference_low`, `difference_high`.

    Raises:
        ConfigError, DataError: as `caption_intervals`, or for a missing name.
    """
    if reference not in methods:
        raise ConfigError(f"reference={reference!r} is none of: {', '.join(methods)}")
    weights = _resample(len(references), samples, confidence, seed)
    results = {
        method: _resampled(captions, references, weights) for method, captions in methods.items()
    }
    rows = []
    for method, scores in results.items():
        for metric, values in scores.items():
            difference = _interval(values - results[reference][metric], confidence)
            rows.append(
                {
                    "method": method,
                    "metric": metric,
                    **_interval(values, confidence),
                    "difference": difference["value"],
                    "difference_low": difference["low"],
                    "difference_high": difference["high"],
                }
            )
    return pd.DataFrame(rows)


def check_captions(captions: Sequence[Caption], references: References) -> None:
    """Are these captions and references as the module's docstring says?

    Raises:
        DataError: if not: what is wrong, and where.
    """
    _check_words(captions)
    _check_references(references)
    if len(captions) != len(references):
        raise DataError(
            f"{len(captions)} captions, but references of {len(references)} images. "
            "Give one caption per image, in the same order."
        )


def _check_references(references, name="references") -> None:
    _check_list(references, name, "a list of lists of words per image")
    for i, of_image in enumerate(references):
        _check_list(of_image, f"{name}[{i}]", "the lists of words of an image")
        if not of_image:
            raise DataError(f"{name}[{i}] is empty: leave out images that nobody described.")
        for k, caption in enumerate(of_image):
            _check_caption(caption, name, i, k)
            if not caption:
                raise DataError(f"{name}[{i}][{k}] has no word: leave it out.")
    if not references:
        raise DataError(f"{name}: there is no image.")


def _check_words(captions, known=frozenset()) -> None:
    _check_list(captions, "captions", "a list of words per image")
    # This runs for every batch of a reward: words are looked at once, `known` ones never.
    try:
        new = set().union(*captions).difference(known)
    except TypeError:
        new = {None}  # what cannot stand in a set is no word
    if not all(map(_is_list, captions)) or not all(map(_is_word, new)):
        for i, caption in enumerate(captions):
            _check_caption(caption, "captions", i)
    if not captions:
        raise DataError("There is no caption to judge.")


def _images_of(captions, images, count: int, known) -> np.ndarray:
    """Which of `count` images each caption describes, checked; by default each one in order."""
    _check_words(captions, known)
    images = np.arange(count) if images is None else np.asarray(images)
    if len(captions) != len(images):
        raise DataError(
            f"{len(captions)} captions for {len(images)} images. Give one each, or `images`."
        )
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() >= count:
        raise ConfigError(f"images must be whole numbers in 0..{count - 1}. Received: {images}")
    return images


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple))


def _is_word(value) -> bool:
    return isinstance(value, str) and value != "" and " " not in value


def _check_caption(caption, name, *place) -> None:
    if _is_list(caption):
        wrong = next((f"holds {word!r}" for word in caption if not _is_word(word)), None)
        if wrong is None:
            return
    else:
        wrong = f"is {str(caption)[:40]!r}, of type {type(caption).__name__}"
    where = name + "".join(f"[{i}]" for i in place)
    raise DataError(
        f"{where} {wrong}, where a list of words is wanted. "
        "Split texts with `common.data.vocabulary.normalise`, decode numbers with `Vocabulary`."
    )


def _check_list(value, name, wanted) -> None:
    if not _is_list(value):
        raise DataError(
            f"{name} must be {wanted}. Received: {str(value)[:40]!r}, of type "
            f"{type(value).__name__}"
        )


def _flatten(references, name="references") -> tuple[list[Caption], list[int]]:
    """All captions one after the other, and how many each image has."""
    _check_references(references, name)
    return [text for of_image in references for text in of_image], [len(i) for i in references]


class _Grams:
    """The 1-grams to 4-grams of many captions: a row for each that a caption holds.

    Attributes:
        row: Number of the caption; sorted.
        key: The numbers of the words packed into one, so that each n-gram has its own; sorted
            within a caption.
        order: 0 to 3 for 1-grams to 4-grams.
        count: How often the caption holds it.
    """

    def __init__(self, captions, ids):
        row, word = _words_of(captions, ids)
        word = word.astype("uint64")
        place = np.arange(len(row)) - np.searchsorted(row, row)
        rows, keys, key = [], [], np.zeros(len(row), "uint64")
        for n in range(_ORDERS):  # `key` of what ends at each word
            key = np.append(key[-1:], key[:-1]) << np.uint64(_BITS) | word
            rows.append(row[place >= n])
            keys.append(key[place >= n])
        row, key = np.concatenate(rows), np.concatenate(keys)
        sort = np.lexsort((key, row))
        row, key = row[sort], key[sort]
        first = np.flatnonzero(_changes(row) | _changes(key))
        self.row, self.key = row[first], key[first]
        self.count = np.diff(np.append(first, len(row)))
        powers = np.uint64(1) << np.arange(1, _ORDERS, dtype="uint64") * np.uint64(_BITS)
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


def _number_words(captions, ids=None, limit=2**_BITS - 1) -> dict[str, int]:
    """A number from 1 for each word, those in `ids` keeping theirs."""
    ids = dict(ids or {})
    for word in dict.fromkeys(chain.from_iterable(captions)):
        ids.setdefault(word, len(ids) + 1)
    if limit and len(ids) > limit:
        raise DataError(f"More than {limit:,} different words are too many for CIDEr-D and BLEU.")
    return ids


def _words_of(captions, ids) -> tuple[np.ndarray, np.ndarray]:
    """The caption and the number of every word, 0 for one that has none."""
    lengths = _lengths(captions)
    numbers = map(ids.get, chain.from_iterable(captions), repeat(0))
    word = np.fromiter(numbers, "int64", lengths.sum())
    return np.repeat(np.arange(len(captions)), lengths), word


def _followed(row, end) -> np.ndarray:
    """Whether a word of the same text follows each of the words at `end`."""
    return np.append(row, -1)[end + 1] == row[end]


def _count_pairs(first, second, size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of numbers once, and how often it comes; the second ones are below `size`."""
    pairs, count = np.unique(first * size + second, return_counts=True)
    return pairs // size, pairs % size, count


def _lengths(captions) -> np.ndarray:
    return np.fromiter(map(len, captions), int, len(captions))


def _changes(values) -> np.ndarray:
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _first_of_each(image, key) -> np.ndarray:
    """The keys of every image, each once per image."""
    sort = np.lexsort((key, image))
    image, key = image[sort], key[sort]
    return key[_changes(image) | _changes(key)]


def _norms(grams, weight, rows) -> np.ndarray:
    """Lengths of the vectors, (rows, orders)."""
    squares = np.bincount(grams.row * _ORDERS + grams.order, weight**2, rows * _ORDERS)
    return np.sqrt(squares).reshape(-1, _ORDERS)


def _ranges(start, stop) -> tuple[np.ndarray, np.ndarray]:
    """All numbers from `start[i]` to before `stop[i]`, and the i that each belongs to."""
    sizes = stop - start
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) + (start - np.cumsum(sizes) + sizes)[owner]


def _common_subsequence(a, b) -> int:
    """Length of the longest one."""
    row = [0] * (len(b) + 1)
    for x in a:
        last, row = row, [0]
        for j, y in enumerate(b):
            row.append(last[j] + 1 if x == y else max(last[j + 1], row[j]))
    return row[-1]


def _shares(captions, references) -> dict[str, np.ndarray | None]:
    """The scores that are means over captions, (N,) each, in the unit of `caption_scores`."""
    from_nltk = meteor(captions, references)
    bad = [not caption or caption[-1] in BAD_ENDINGS for caption in captions]
    return {
        "rouge_l": 100 * rouge_l(captions, references),
        "meteor": None if from_nltk is None else 100 * from_nltk,
        "bad_endings": np.array(bad, float),
    }


def _bleu_of(sums) -> dict[str, np.ndarray]:
    """BLEU of `SentenceBleu.counts`, summed or smoothed, (..., 10)."""
    matches, totals = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    length, closest = sums[..., -2], np.asarray(sums[..., -1], float)
    brevity = np.minimum(0, 1 - closest / np.maximum(length, 1))
    logs = np.log(np.where(matches > 0, matches, 1) / totals).cumsum(axis=-1)
    some = np.logical_and.accumulate(matches > 0, axis=-1)
    return {
        name: np.where(some[..., n], 100 * np.exp(brevity + logs[..., n] / (n + 1)), 0)
        for n, name in enumerate(BLEUS)
    }


def _resampled(captions, references, weights) -> dict[str, np.ndarray]:
    """By metric (1 + samples,) values: on all images, then on each resample."""
    check_captions(captions, references)
    scores = _bleu_of(weights @ SentenceBleu(references).counts(captions))
    means = {"cider_d": 100 * CiderD(references).score(captions), **_shares(captions, references)}
    for name, values in means.items():
        if values is not None:
            scores[name] = weights @ values / len(captions)
    return scores


def _resample(images, samples, confidence, seed) -> np.ndarray:
    """How often each resample holds each image, (1 + samples, images); first: each once."""
    if images < 2:
        raise DataError("A bootstrap over images needs two of them at least.")
    if samples < 1 or not 0 < confidence < 1:
        raise ConfigError(
            "Wanted samples >= 1 and a confidence between 0 and 1. "
            f"Received: samples={samples}, confidence={confidence}"
        )
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=samples)
    return np.concatenate([np.ones((1, images)), drawn])


def _interval(values, confidence) -> dict[str, float]:
    """`value` is the first; `low` and `high` are of the others, the resamples."""
    low, high = np.quantile(values[1:], ((1 - confidence) / 2, (1 + confidence) / 2))
    return {"value": values[0], "low": low, "high": high}


def _why_no_wordnet() -> str | None:
    """Looks on this machine only: nothing is downloaded."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return (
            "METEOR needs WordNet, which is not on this machine. To have it, run "
            "`python -m nltk.downloader wordnet`."
        )
    return None
