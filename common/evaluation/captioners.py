"""Scores of trained captioners: what they write, in several ways, and how good it is."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from common.data.scene_captions import error_kind, true_captions
from common.data.synthetic_scenes import SceneData
from common.data.vocabulary import BAD_ENDINGS
from common.evaluation.captions import CiderD, bleu, caption_scores
from common.evaluation.rewards import CaptionReward
from common.models.captioning import Decoder
from common.training.caption_task import CaptionTask
from common.training.generation import DECODING, Generator

# How captions are written where scores are told; the length penalty was chosen on dev images.
WAYS = {
    "greedy": {"method": "greedy"},
    "beam 3": DECODING,
    "beam 5": DECODING | {"beams": 5},
}

# What studies tell of captions.
JUDGED = ("true_captions", "bleu_1", "bleu_4", "cider_d", "bad_endings", "distinct", "length")

_BATCH = 50  # images at a time

# Words of which a caption of a photo says one where people say another, or nothing.
_COLOURS = frozenset(
    "black white red blue green yellow brown orange pink purple grey gray tan gold".split()
)
_NUMBERS = frozenset("two three four five six several many".split())
_PEOPLE = (
    frozenset("man men guy guys male gentleman".split()),
    frozenset("woman women lady ladies female".split()),
    frozenset("boy boys".split()),
    frozenset("girl girls".split()),
)
_ANIMALS = frozenset("dog dogs puppy cat cats bird birds horse horses cow cows sheep".split())
_FILLING = BAD_ENDINGS | {"there", "it", "he", "she", "they", "two", "out", "up", "down", "off"}


def bleu_4(captions, references) -> float:
    """BLEU-4, 0 to 100."""
    return bleu(captions, references)["bleu_4"]


def dev_metric(task: CaptionTask) -> str:
    """The score that epochs of teacher forcing, and decodings, are chosen by on dev images.

    BLEU-4 of photos. Of scenes the share of true captions: there, BLEU prefers sentences that fit
    many scenes a little to those that are true of one.
    """
    return "true_captions" if isinstance(task.data["dev"], SceneData) else "bleu_4"


def dev_score(task: CaptionTask) -> Callable:
    """`dev_metric` as a function of captions of the dev images and their references, 0 to 100."""
    if dev_metric(task) == "bleu_4":
        return bleu_4
    scenes = task.data["dev"].scenes
    return lambda captions, references: 100 * true_captions(captions, scenes)


def dev_reward(task: CaptionTask, reward: str | Mapping[str, float], length: int) -> Callable:
    """The mean reward of captions of the dev images, as a function like that of `dev_score`.

    What is rewarded of training images is asked of others, by the same `idf` and weights: the epoch
    in which it is highest is the last one that learned more than those images. As a mean over
    captions it is steadier than BLEU-4 of all of them together, and it weighs the scores of a mix
    as the mix does.

    Args:
        task: Data and features.
        reward: See `CaptionReward`; its `weights` save counting those of a mix again.
        length: The most words that the captioner writes, see `CaptionReward.of_each_image`.
    """
    rewarded = CaptionReward(
        reward,
        task.features["dev"].references,
        task.data["dev"],
        corpus=task.features["train"].references,
    )
    return lambda captions, references: float(rewarded.of_each_image(captions, length).mean())


def judge(
    trained: Decoder, task: CaptionTask, split: str, ways: dict[str, dict] | None = None
) -> tuple[pd.DataFrame, dict[str, list[list[str]]]]:
    """Captions of a split's images in several ways, and their scores.

    Args:
        trained: The decoder.
        task: Data and features.
        split: "dev" to choose by, "test" to report.
        ways: Options of `Generator.captions` by name; by default `WAYS`.

    Returns:
        A row per way with the scores of `caption_scores`, and on scenes `true_captions`, the share
        of captions that are true; and the captions by way.
    """
    generator = Generator(trained, task.vocabulary, min(_BATCH, len(task.features[split])))
    rows, written = {}, {}
    for way, options in (WAYS if ways is None else ways).items():
        captions = generator.captions(task.features[split].features, **options)
        written[way] = captions
        rows[way] = score(captions, task, split)
    return pd.DataFrame(rows).T.rename_axis("decoding"), written


def judge_on_dev(trained: Decoder, task: CaptionTask) -> dict[str, float]:
    """What studies keep of a captioner: scores of its captions of the dev images.

    Returns:
        `JUDGED` of three beams with the `length_penalty` that is best on these images, and with
        `greedy_` before their names of greedy captions.
    """
    chosen, tried, _ = choose_decoding(trained, task)
    greedy, _ = judge(trained, task, "dev", {"greedy": WAYS["greedy"]})
    rows = {"": tried.loc[f"penalty {chosen['length_penalty']}"], "greedy_": greedy.loc["greedy"]}
    found = {
        f"{way}{name}": round(float(row[name]), 4)
        for way, row in rows.items()
        for name in JUDGED
        if name in row
    }
    return {**found, "length_penalty": chosen["length_penalty"]}


def score(captions: list[list[str]], task: CaptionTask, split: str) -> dict[str, float | None]:
    """Scores of captions of a split's images, see `judge`."""
    train = task.features["train"].references
    scores = caption_scores(captions, task.features[split].references, train)
    data = task.data[split]
    if isinstance(data, SceneData):
        scores["true_captions"] = true_captions(captions, data.scenes)
    return scores


def choose_decoding(
    trained: Decoder, task: CaptionTask, beams: int = 3, penalties=(0.3, 0.5, 0.7, 0.9, 1.1)
) -> tuple[dict, pd.DataFrame, dict]:
    """The length penalty with the best `dev_metric`, as options of `Generator.captions`.

    Returns:
        The options, the table that they were chosen from, and `confidence` of captions written so,
        for the record.
    """
    dev = task.features["dev"]
    generator = Generator(trained, task.vocabulary, min(_BATCH, len(dev)))
    rows, written = {}, {}
    for penalty in penalties:
        options = {"method": "beam", "beams": beams, "length_penalty": penalty}
        way = f"penalty {penalty}"
        written[way] = options, *generator.scored_captions(dev.features, **options)
        rows[way] = score(written[way][1], task, "dev")
    table = pd.DataFrame(rows).T.rename_axis("decoding")
    options, captions, scores = written[table[dev_metric(task)].astype(float).idxmax()]
    return options, table, {"split": "dev", **confidence(captions, scores, dev.references)}


def judged_for_record(trained: Decoder, task: CaptionTask) -> dict:
    """All that a record tells of a captioner as it is: `decoding`, `confidence`, `for_record`.

    The decoding and the threshold of `confidence` are chosen on dev images; `confidence["test"]`
    tells what the same threshold is worth on test images.
    """
    decoding, tried, sure = choose_decoding(trained, task)
    table, written = judge(trained, task, "test", ways_of(decoding))
    test = task.features["test"]
    generator = Generator(trained, task.vocabulary, min(_BATCH, len(test)))
    found = generator.scored_captions(test.features, **decoding)
    worth = confidence(*found, test.references, sure["threshold"])
    return {
        "decoding": decoding,
        "confidence": {**sure, "test": worth},
        **for_record(table, written, tried, task),
    }


def ways_of(decoding: dict) -> dict[str, dict]:
    """`WAYS`, the beams with the length penalty of a captioner's own decoding."""
    penalty = {"length_penalty": decoding["length_penalty"]}
    return {way: {**o, **penalty} if "beams" in o else o for way, o in WAYS.items()}


def for_record(
    table: pd.DataFrame, written: dict[str, list[list[str]]], tried: pd.DataFrame, task: CaptionTask
) -> dict:
    """What the record of a run tells of a captioner that has been judged.

    Args:
        table, written: From `judge`, on the test images in `WAYS`.
        tried: The table of `choose_decoding`.
        task: Data and features.

    Returns:
        `metrics` (those of three beams, and what the decoding was chosen by), `test` (all scores by
        way; `None` for what is no number), and `samples`, the captions of ten images.
    """
    names = ("true_captions", "bleu_1", "bleu_4", "cider_d")
    metrics = {f"test_{m}": float(table.loc["beam 3", m]) for m in names if m in table}
    metrics[f"val_{dev_metric(task)}"] = float(tried[dev_metric(task)].astype(float).max())
    numbers = table.astype(float).astype(object).where(table.notna(), None)
    pairs = zip(task.data["test"].names[:10], written["beam 3"], strict=False)
    return {
        "metrics": metrics,
        "test": numbers.to_dict("index"),
        "samples": [{"image": image, "caption": " ".join(words)} for image, words in pairs],
    }


def confidence(
    captions: Sequence[Sequence[str]],
    scores: np.ndarray,
    references: Sequence[Sequence[Sequence[str]]],
    threshold: float | None = None,
) -> dict[str, float]:
    """From which score on a captioner's captions are called sure, and what that is worth.

    1. CIDEr-D of each caption, and over the scores its isotonic fit: the means that never fall.
    2. The threshold is the least score at which that fit reaches the mean of all captions.

    Args:
        captions: The words of a caption of each image.
        scores: Mean log-probability of each caption's words.
        references: Words of what people said, by image.
        threshold: Chosen on other images, in place of the one of step 2.

    Returns:
        `n`, `threshold`, the `share` of captions that are sure, and the mean CIDEr-D (times 100)
        of all (`cider_d`), of the sure and of the unsure ones (`None` where there is none).
    """
    scores = np.asarray(scores, "float64")
    quality = 100 * CiderD(references).score(captions)
    if threshold is None:
        fit = IsotonicRegression(out_of_bounds="clip").fit(scores, quality)
        ordered = np.sort(scores)
        threshold = float(ordered[np.argmax(fit.predict(ordered) >= quality.mean())])
    sure = scores >= threshold
    return {
        "n": len(scores),
        "threshold": threshold,
        "share": float(sure.mean()),
        "cider_d": float(quality.mean()),
        "sure_cider_d": float(quality[sure].mean()) if sure.any() else None,
        "unsure_cider_d": float(quality[~sure].mean()) if not sure.all() else None,
    }


def scene_errors(captions: Sequence[Sequence[str]], data: SceneData) -> pd.DataFrame:
    """Which kind of error each caption of a scene has, if any: a row per caption, bool columns."""
    kinds = [error_kind(words, scene) for words, scene in zip(captions, data.scenes, strict=True)]
    return pd.get_dummies(pd.Series(kinds, dtype="object"))


def photo_errors(
    captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> pd.DataFrame:
    """What captions of photos say that none of the people said, by kind.

    Nobody checks photos: a thing that no reference mentions may well be there. So these are hints
    where to look, and their shares upper bounds. Colours, numbers, people and animals are known by
    their English words.

    Args:
        captions: Words of a caption of each image.
        references: Words of what people said, by image.

    Returns:
        A row per caption, bool columns.
    """
    rows = []
    for words, people in zip(captions, references, strict=True):
        own = set(words)
        said = {word for caption in people for word in caption}
        kinds_said = [group for group in _PEOPLE if group & said]
        content = [word for word in words if word not in _FILLING]
        rows.append(
            {
                "a colour that nobody named": bool((own & _COLOURS) - said),
                "a number that nobody named": bool((own & _NUMBERS) - said),
                "a man for a woman, a boy for a girl": bool(kinds_said)
                and any(group & own and not group & said for group in _PEOPLE),
                "an animal that nobody saw": bool(own & _ANIMALS) and not said & _ANIMALS,
                "nothing that anybody said": bool(content) and not set(content) & said,
                "the same word twice": len(content) > len(set(content)),
                "an end in the middle": not words or words[-1] in BAD_ENDINGS,
            }
        )
    return pd.DataFrame(rows)
