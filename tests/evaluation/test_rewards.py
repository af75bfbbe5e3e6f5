"""Rewards: sums of scores, in which the end of a caption counts."""

import numpy as np
import pytest

from common.data.synthetic_scenes import synthetic_scenes
from common.errors import ConfigError
from common.evaluation.captions import CiderD, SentenceBleu
from common.evaluation.rewards import REWARDS, CaptionReward, people_spread

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


def scores_of_people(references):
    """BLEU-4 and CIDEr-D of every caption against the others of its image, one by one."""
    ended = [[[*words, "<end>"] for words in image] for image in references]
    corpus, found = CiderD(ended), []
    for image in ended:
        for k, words in enumerate(image):
            others = [image[:k] + image[k + 1 :]]
            if others[0]:
                bleu = SentenceBleu(others, "method1").score([words])[0]
                found.append((bleu, CiderD(others, corpus).score([words])[0]))
    return np.array(found)


def test_each_score_of_a_mix_moves_it_by_its_share():
    references = synthetic_scenes("dev", 30).references
    references = [image[: 1 + i % 3] for i, image in enumerate(references)]  # 1 to 3 captions each
    spread = scores_of_people(references).std(axis=0)
    ended = [[[*words, "<end>"] for words in image] for image in references]
    own = people_spread(lambda texts: SentenceBleu(texts, "method1").score, ended)
    assert own == pytest.approx(spread[0])
    mix = CaptionReward("mix", references)
    assert sum(mix.weights.values()) == pytest.approx(1, abs=2e-3)
    moved = [mix.weights[name] * s for name, s in zip(("bleu_4", "cider_d"), spread, strict=True)]
    assert moved[0] == pytest.approx(moved[1], rel=0.02)  # weights have three digits
    # Weights by hand are taken as they are; so are the shares where nothing can be measured.
    by_hand = {"bleu_4": 0.5, "cider_d": 0.5}
    assert CaptionReward(by_hand, references).weights == by_hand != mix.weights
    assert CaptionReward("mix", [image[:1] for image in references]).weights == by_hand


def test_images_of_others_are_rewarded_as_those_of_the_training():
    data = synthetic_scenes("train", 40).references
    train, dev = data[:30], data[30:]
    ended = [[[*words, "<end>"] for words in image] for image in (*train, *dev)]
    captions = [image[0] for image in ended[30:]][::-1]
    mix = CaptionReward("mix", train)
    other = CaptionReward("mix", dev, corpus=train)
    assert other.weights == mix.weights
    cider = CiderD(ended[30:], CiderD(ended[:30])).score(captions)
    bleu = SentenceBleu(ended[30:], "method1").score(captions)
    wanted = mix.weights["bleu_4"] * bleu + mix.weights["cider_d"] * cider
    np.testing.assert_allclose(other(captions, np.arange(10)), wanted)
    assert np.abs(cider - CiderD(ended[30:]).score(captions)).max() > 0.01


@pytest.mark.parametrize("reward", ["bleu_4", "cider_d", "mix"])
def test_a_caption_that_was_cut_off_has_no_end(reward):
    judged = CaptionReward(reward, REFERENCES)
    captions = [["a", "dog", "runs"], ["men", "on", "a", "bench"]]
    found = judged.of_each_image(captions, length=4)  # the second one fills it
    both = [["a", "dog", "runs", "<end>"], ["men", "on", "a", "bench"]]
    np.testing.assert_allclose(found, judged(both, np.arange(2)))
    assert judged.of_each_image(captions, length=5)[1] > found[1]


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
