"""Rewards that a captioner can be trained by: scores of single captions, and sums of them.

A reward takes captions and the numbers of the images that they describe, and gives a number for
each, see `common.training.self_critical`. A caption that has ended ends with the word `<end>`, and
so do the references here: to stop is a word as any other, right in its place and wrong elsewhere.
Without it, a caption that breaks off after "with a" scores as if it had been finished there.
"""

from collections.abc import Mapping, Sequence

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
# Weights of scores by the name of a reward.
REWARDS = {
    "bleu_4": {"bleu_4": 1.0},
    "cider_d": {"cider_d": 1.0},
    "mix": {"bleu_4": 0.5, "cider_d": 0.5},
    "truth": {"truth": 1.0},
}


class CaptionReward:
    """A weighted sum of scores as a reward.

    1. `bleu_4`: BLEU-4 of the caption alone, with 0.1 for a count of no match (`SentenceBleu`,
       nltk's method 1); 0 to 1. One match and one n-gram more (method 2) is kinder to short
       captions: captions drawn on Flickr8k lose a tenth of a standard deviation of reward with
       each word more, against a fiftieth, and training by it takes four of their ten words.
    2. `cider_d`: CIDEr-D, `idf` counted on the images given; 0 to 10, and about 1 for what people
       write.
    3. `truth`: of scenes that were drawn by code: 1 if every claim is true, else 0.

    Args:
        reward: A name of `REWARDS`, or weights by the name of the score.
        references: For each image lists of words.
        data: The images, for `truth`.

    Raises:
        ConfigError: for an unknown name, or `truth` where nobody knows it.
    """

    def __init__(
        self,
        reward: str | Mapping[str, float],
        references: References,
        data: CaptionData | None = None,
    ):
        weights = REWARDS.get(reward, {}) if isinstance(reward, str) else dict(reward)
        if not weights or not set(weights) <= set(SCORES):
            raise ConfigError(
                f"reward={reward!r} is unknown. Choose one of {tuple(REWARDS)}, or give a weight "
                f"to some of {SCORES}."
            )
        self.weights = weights
        ended = [[[*words, ENDED] for words in of_image] for of_image in references]
        makers = {
            "bleu_4": lambda: SentenceBleu(ended, "method1").score,
            "cider_d": lambda: CiderD(ended).score,
            "truth": lambda: _truth(data),
        }
        self.scores = {name: makers[name]() for name in weights}

    def __call__(self, captions: Sequence[Sequence[str]], images: np.ndarray) -> np.ndarray:
        """The reward of each caption, `(N,)`."""
        return sum(
            weight * np.asarray(self.scores[name](captions, images), float)
            for name, weight in self.weights.items()
        )

    def of_each_image(self, captions: Sequence[Sequence[str]]) -> np.ndarray:
        """The reward of one caption of every image, in their order and without `<end>`, `(N,)`."""
        ended = [[*words, ENDED] for words in captions]
        return self(ended, np.arange(len(ended)))


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
