"""Rewards: sums of scores, in which the end of a caption counts."""

import numpy as np
import pytest

from common.data.synthetic_scenes import synthetic_scenes
from common.errors import ConfigError
from common.evaluation.captions import CiderD, SentenceBleu
from common.evaluation.rewards import REWARDS, CaptionReward

REFERENCES = [
    [["a", "dog", "runs", "on", "grass"], ["a", "brown", "dog", "runs"]],
    [["two", "men", "sit", "on", "a", "bench"], ["men", "on", "a", "bench"]],
]
CAPTIONS = [
    ["a", "dog", "runs", "<end>"],
    ["a", "dog", "runs"],
    ["men", "on", "a", "bench", "<end>"],
    ["men", "on", "a"],
]
IMAGES = np.array([0, 0, 1, 1])
ENDED = [[[*words, "<end>"] for words in image] for image in REFERENCES]


def test_scores_are_those_of_ended_captions():
    bleu = SentenceBleu(ENDED, "method1").score(CAPTIONS, IMAGES)
    cider = CiderD(ENDED).score(CAPTIONS, IMAGES)
    np.testing.assert_allclose(CaptionReward("bleu_4", REFERENCES)(CAPTIONS, IMAGES), bleu)
    np.testing.assert_allclose(CaptionReward("cider_d", REFERENCES)(CAPTIONS, IMAGES), cider)
    mixed = CaptionReward({"bleu_4": 0.3, "cider_d": 2.0}, REFERENCES)(CAPTIONS, IMAGES)
    np.testing.assert_allclose(mixed, 0.3 * bleu + 2 * cider)


@pytest.mark.parametrize("reward", ["bleu_4", "cider_d", "mix"])
def test_breaking_off_is_worth_less(reward):
    scores = CaptionReward(reward, REFERENCES)(CAPTIONS, IMAGES)
    assert scores[0] > scores[1] and scores[2] > scores[3]


def test_truth_of_scenes():
    data = synthetic_scenes("dev", 20)
    reward = CaptionReward("truth", data.references, data)
    images = np.arange(20)
    people = [[*data.references[i][0], "<end>"] for i in images]
    assert reward(people, images).tolist() == [1.0] * 20
    assert reward([words[:-1] for words in people], images).sum() == 0  # nobody has ended
    others = reward(people, (images + 1) % 20)
    assert others.mean() < 0.5
    assert reward([[]], images[:1]).tolist() == [0.0]


def test_unknown_rewards():
    for reward in ("rouge", {}, {"bleu_4": 1, "length": 2}):
        with pytest.raises(ConfigError, match="is unknown. Choose one of"):
            CaptionReward(reward, REFERENCES)
    with pytest.raises(ConfigError, match="only of scenes drawn by code"):
        CaptionReward("truth", REFERENCES)
    assert set(REWARDS) == {"bleu_4", "cider_d", "mix", "truth"}
