"""ROUGE-L and METEOR, of single captions."""

from collections.abc import Sequence

import numpy as np

from common.evaluation.captions.checks import Caption, References, check_captions


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


def _common_subsequence(a, b) -> int:
    """Length of the longest one."""
    row = [0] * (len(b) + 1)
    for x in a:
        last, row = row, [0]
        for j, y in enumerate(b):
            row.append(last[j] + 1 if x == y else max(last[j + 1], row[j]))
    return row[-1]


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
