"""Scores of trained captioners: what they write, in several ways, and how good it is."""

import pandas as pd

from common.data.synthetic_scenes import SceneData, true_captions
from common.evaluation.captions import bleu, caption_scores
from common.models.decoders import Decoder
from common.training.captioner import CaptionTask
from common.training.generation import Generator

# How captions are written where scores are told; the length penalty was chosen on dev images.
WAYS = {
    "greedy": {"method": "greedy"},
    "beam 3": {"method": "beam", "beams": 3, "length_penalty": 0.7},
    "beam 5": {"method": "beam", "beams": 5, "length_penalty": 0.7},
}


def bleu_4(captions, references) -> float:
    """What a training is judged by, epoch by epoch."""
    return bleu(captions, references)["bleu_4"]


def judge(
    trained: Decoder,
    task: CaptionTask,
    split: str,
    ways: dict[str, dict] | None = None,
    batch_size: int = 50,
) -> tuple[pd.DataFrame, dict[str, list[list[str]]]]:
    """Captions of a split's images in several ways, and their scores.

    Args:
        trained: The decoder.
        task: Data and features.
        split: "dev" to choose by, "test" to report.
        ways: Options of `Generator.captions` by name; by default `WAYS`.
        batch_size: Images at a time.

    Returns:
        A row per way with the scores of `caption_scores`, and on scenes `true_captions`, the share
        of captions that are true; and the captions by way.
    """
    generator = Generator(trained, task.vocabulary, min(batch_size, len(task.features[split])))
    rows, written = {}, {}
    for way, options in (WAYS if ways is None else ways).items():
        captions = generator.captions(task.features[split].features, **options)
        written[way] = captions
        rows[way] = score(captions, task, split)
    return pd.DataFrame(rows).T.rename_axis("decoding"), written


def score(captions: list[list[str]], task: CaptionTask, split: str) -> dict[str, float | None]:
    """Scores of captions of a split's images, see `judge`."""
    train = task.features["train"].references
    scores = caption_scores(captions, task.features[split].references, train)
    data = task.data[split]
    if isinstance(data, SceneData):
        scores["true_captions"] = true_captions(captions, data.scenes)
    return scores


def choose_decoding(
    trained: Decoder, task: CaptionTask, beams: int = 3, penalties=(0.5, 0.7, 0.9, 1.1)
) -> tuple[dict, pd.DataFrame]:
    """The length penalty with the best BLEU-4 on dev images, as options of `Generator.captions`.

    Returns:
        The options, and the table that they were chosen from.
    """
    ways = {
        f"penalty {penalty}": {"method": "beam", "beams": beams, "length_penalty": penalty}
        for penalty in penalties
    }
    table, _ = judge(trained, task, "dev", ways)
    return ways[table["bleu_4"].astype(float).idxmax()], table
