"""Kinds of errors in captions."""

import numpy as np
import pytest

from common.data.scene_captions import true_captions
from common.data.synthetic_scenes import synthetic_scenes
from common.data.vocabulary import Vocabulary
from common.evaluation.captioners import (
    choose_decoding,
    confidence,
    dev_reward,
    photo_errors,
    scene_errors,
)
from common.evaluation.captions import CiderD
from common.evaluation.rewards import CaptionReward
from common.models.captioning import decoder
from common.training.caption_task import CaptionTask
from common.training.generation import build_decoder
from common.training.teacher_forcing import CaptionedFeatures

PEOPLE = [["a", "black", "dog", "runs"], ["two", "dogs", "with", "a", "woman"]]


def errors(text):
    found = photo_errors([text.split()], [PEOPLE]).loc[0]
    return set(found.index[found])


def test_errors_of_photos():
    assert errors("a black dog") == set()
    assert errors("a white dog") == {"a colour that nobody named"}
    assert errors("three dogs with a woman") == {"a number that nobody named"}
    assert errors("a man and a dog") == {"a man for a woman, a boy for a girl"}
    assert errors("a woman and her dog and a dog") == {"the same word twice"}
    assert errors("a dog with a") == {"an end in the middle"}
    assert errors("") == {"an end in the middle"}
    assert errors("people surf") == {"nothing that anybody said"}
    animals = photo_errors([["a", "dog"], ["a", "cat"]], [[["a", "goat"]], [["a", "dog"]]])
    assert animals["an animal that nobody saw"].tolist() == [True, False]


def test_errors_of_scenes():
    data = synthetic_scenes("dev", 100)
    right = [image[0] for image in data.references]
    assert scene_errors(right, data).empty or not scene_errors(right, data).any(axis=None)
    shifted = right[1:] + right[:1]
    found = scene_errors(shifted, data)
    assert 1 - found.any(axis=1).mean() == pytest.approx(true_captions(shifted, data.scenes))
    assert (found.sum(axis=1) <= 1).all() and np.all(found.any())


def test_reward_of_dev_captions():
    """That of the training: of captions that have ended, by the words of the training images."""
    data = {"dev": synthetic_scenes("dev", 20), "train": synthetic_scenes("train", 30)}
    features = {
        split: CaptionedFeatures(np.zeros((len(part), 1, 1)), part.references)
        for split, part in data.items()
    }
    task = CaptionTask("synthetic", data, features, None, {}, {})
    dev = data["dev"]
    people = [image[0] for image in dev.references]
    wrong = people[1:] + people[:1]
    assert dev_reward(task, "truth", 99)(people, dev.references) == 1
    longest = max(map(len, people))
    cut = np.mean([len(words) == longest for words in people])
    assert dev_reward(task, "truth", longest)(people, dev.references) == pytest.approx(1 - cut)
    share = true_captions(wrong, dev.scenes)
    assert dev_reward(task, "truth", 99)(wrong, dev.references) == pytest.approx(share)
    ended = [[*words, "<end>"] for words in wrong]
    for reward in ("mix", {"bleu_4": 0.3, "cider_d": 0.7}):
        judged = CaptionReward(reward, dev.references, corpus=data["train"].references)
        expected = judged(ended, np.arange(20)).mean()
        found = dev_reward(task, reward, 99)(wrong, dev.references)
        assert found == pytest.approx(expected)


def test_captions_are_sure_where_they_are_as_good_as_the_mean():
    data = synthetic_scenes("dev", 40)
    people = [image[0] for image in data.references]
    captions = people[:20] + [["no", "idea"]] * 20
    scores = -0.01 * np.arange(40)
    found = confidence(captions, scores, data.references)
    quality = 100 * CiderD(data.references).score(captions)
    assert found["n"] == 40 and found["cider_d"] == pytest.approx(quality.mean())
    assert found["threshold"] == scores[19] and found["share"] == 0.5
    assert found["sure_cider_d"] == pytest.approx(quality[:20].mean())
    assert found["unsure_cider_d"] == pytest.approx(quality[20:].mean())
    # Scores that say nothing: all captions are equally sure.
    same = confidence(captions, np.zeros(40), data.references)
    assert same["share"] == 1 and same["unsure_cider_d"] is None


def test_confidence_of_a_captioner_is_of_its_dev_images():
    data = synthetic_scenes("dev", 6)
    vocabulary = Vocabulary.build((c for image in data.references for c in image), 1)
    features = np.random.default_rng(0).standard_normal((6, 4, 8)).astype("float16")
    dev = CaptionedFeatures(features, data.references)
    task = CaptionTask("synthetic", {"dev": data}, {"train": dev, "dev": dev}, vocabulary, {}, {})
    made = decoder("lstm", len(vocabulary), width=8, max_length=6)
    trained = build_decoder(made, 4, 8)
    _, table, found = choose_decoding(trained, task, beams=2, penalties=(0.5, 1.0))
    assert list(table.index) == ["penalty 0.5", "penalty 1.0"]
    assert found["split"] == "dev" and found["n"] == 6 and found["threshold"] < 0
