"""Rewards that a captioner can be trained by: scores of single captions, and sums of them.

A reward takes captions and the numbers of the images that they describe, and gives a number for
each, see `common.training.self_critical`. A caption that has ended ends with the word `<end>`, and
so do the references here: to stop is a word as any other, right in its place and wrong elsewhere.
Without it, a caption that breaks off after "with a" scores as if it had been finished there.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common.data.captions import CaptionData
from common.data.scene_captions import check_caption
from common.data.synthetic_scenes import SceneData
from common.data.vocabulary import END, SPECIAL
from common.errors import ConfigError
from common.evaluation.captions import CiderD, References, SentenceBleu

ENDED = SPECIAL[END]
# What can be rewarded: scores of a caption, about 0 to 1.
SCORES = ("bleu_4", "cider_d", "truth")
# Shares of scores by the name of a reward.
REWARDS = {
    "bleu_4": {"bleu_4": 1.0},
    "cider_d": {"cider_d": 1.0},
    "mix": {"bleu_4": 0.5, "cider_d": 0.5},
    "truth": {"truth": 1.0},
}


class CaptionReward:
    """A weighted sum of scores as a reward.

    1. `bleu_4`: BLEU-4 of the caption alone, with 0.1 for a count of no match (`SentenceBleu`,
       nltk's method 1); 0 to 1. Method 2 is kinder to short captions, see
       `phase3_captioning/LOG.md`.
    2. `cider_d`: CIDEr-D, `idf` counted on `corpus`; 0 to 10, and about 1 for what people write.
    3. `truth`: of scenes that were drawn by code: 1 if every claim is true, else 0.
    4. A name with several scores: `weight_s = c * share_s / spread_s`, with the `people_spread` of
       each score in `corpus`, and `c` such that the weights have the sum of the shares. So each
       score moves the reward by its share. The plain sum of halves is mostly CIDEr-D.

    Args:
        reward: A name of `REWARDS`, or weights by the name of the score, which are taken as such.
        references: For each image lists of words.
        data: The images, for `truth`.
        corpus: The references of all training images, where `references` are of others; a reward
            of dev images is then the one of the training.

    Attributes:
        weights: By score; of a name with several rounded to three digits, for the record.

    Raises:
        ConfigError: for an unknown name, or `truth` where nobody knows it.
    """

    def __init__(
        self,
        reward: str | Mapping[str, float],
        references: References,
        data: CaptionData | None = None,
        corpus: References | None = None,
    ):
        weights = REWARDS.get(reward, {}) if isinstance(reward, str) else dict(reward)
        if not weights or not set(weights) <= set(SCORES):
            raise ConfigError(
                f"reward={reward!r} is unknown. Choose one of {tuple(REWARDS)}, or give a weight "
                f"to some of {SCORES}."
            )
        own = _ended(references)
        people = own if corpus is None else _ended(corpus)
        counted = CiderD(people) if "cider_d" in weights else None
        makers = {
            "bleu_4": lambda texts: SentenceBleu(texts, "method1").score,
            "cider_d": lambda texts: (counted if texts is people else CiderD(texts, counted)).score,
            "truth": lambda texts: _truth(data),
        }
        if isinstance(reward, str) and len(weights) > 1:
            weights = _even(weights, {s: people_spread(makers[s], people) for s in weights})
        self.weights = weights
        self.scores = {name: makers[name](own) for name in weights}

    def __call__(self, captions: Sequence[Sequence[str]], images: np.ndarray) -> np.ndarray:
        """The reward of each caption, `(N,)`."""
        return sum(
            weight * np.asarray(self.scores[name](captions, images), float)
            for name, weight in self.weights.items()
        )

    def of_each_image(self, captions: Sequence[Sequence[str]], length: int) -> np.ndarray:
        """The reward of one caption of every image, in their order and without `<end>`, `(N,)`.

        Args:
            captions: Lists of words.
            length: The most words that their captioner writes, `<end>` included
                (`Generator.length`): a caption that fills it has been cut off.
        """
        ended = [[*words, ENDED] if len(words) < length else words for words in captions]
        return self(ended, np.arange(len(ended)))


def people_spread(maker: Callable, references: References) -> float:
    """The standard deviation of a score over people's captions, each judged by its image's others.

    Args:
        maker: From references to a score of captions and the numbers of their images.
        references: For each image lists of words.

    Returns:
        0 where no image has two captions.
    """
    scores = []
    for turn in range(max(map(len, references))):
        several = [image for image in references if len(image) > max(turn, 1)]
        if several:
            others = [[*image[:turn], *image[turn + 1 :]] for image in several]
            judged = [image[turn] for image in several]
            scores.append(maker(others)(judged, np.arange(len(judged))))
    return float(np.std(np.concatenate(scores))) if scores else 0.0


def _even(shares: Mapping[str, float], spreads: Mapping[str, float]) -> dict[str, float]:
    """Weights with which each score moves by its share; the shares where a score stands still."""
    if not all(spreads.values()):
        return dict(shares)
    weights = {name: share / spreads[name] for name, share in shares.items()}
    scale = sum(shares.values()) / sum(weights.values())
    # Not to the last digit, which another processor may round otherwise.
    return {name: float(f"{scale * weight:.3g}") for name, weight in weights.items()}


def _ended(references: References) -> References:
    return [[[*words, ENDED] for words in of_image] for of_image in references]


def _truth(data: CaptionData | None):
    if not isinstance(data, SceneData):
        raise ConfigError("reward='truth': only of scenes drawn by code is it known what is true.")

    def true(words, scene) -> bool:
        # Who never ends has not said anything that could be judged.
        ended = len(words) > 0 and words[-1] == ENDED
        return ended and check_caption(words[:-1], scene) is None

    return lambda captions, images: [
        true(words, data.scenes[i]) for words, i in zip(captions, images, strict=True)
    ]
