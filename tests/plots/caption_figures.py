"""The figures of captions, drawn from made-up data."""

import numpy as np
import pandas as pd

from common import plots
from common.models.captioning import DECODERS

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 255, (12, 16, 3)).astype("uint8").repeat(10, axis=0).repeat(10, axis=1)
SAID = ["A brown dog runs over the green grass .", "dog outside", "A dog is playing in a field"]
WORDS = pd.Series(
    (10_000 / np.arange(1, 301)).astype(int) + 1, index=[f"word{i}" for i in range(300)]
)
MAPS = RNG.gamma(1, 1, (7, 7, 20))
ATTENTION = RNG.dirichlet(np.full(49, 0.1), (9, 2, 4)).reshape(9, 2, 4, 7, 7)
HISTORY = pd.DataFrame(
    {"epoch": [1, 2, 3], "loss": [4, 3, 2.5], "val_loss": [4, 3, 2.9], "val_score": [5, 9, 15.5]}
)
REWARDED = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "val_score": [0.17, 0.18, 0.185],
        "reward": [0.11, 0.14, 0.16],
        "length": [10, 9.5, 9],
        "entropy": [2.0, 1.5, 1.2],
        "distinct": [0.98, 0.9, 0.85],
    }
)
LINE = pd.DataFrame({"distance": [-1, 0, 1], "greedy": [0, 0.5, 0.5], "expected": [0.1, 0.2, 0.3]})
SHARES = pd.DataFrame(
    [
        {"embedding": name, "share": share, "bleu_4": 10 + 5 * share}
        for name in ("random", "GloVe, projected", "GloVe, tuned")
        for share in (0.1, 1.0)
    ]
)
SCORES = pd.DataFrame(
    [
        {"decoder": name, "decoding": way, "bleu_4": 10 + i + j, "true_captions": (i + j) / 10}
        for i, name in enumerate(DECODERS)
        for j, way in enumerate(("greedy", "beam 3", "beam 5"))
    ]
)
BEAMS = pd.DataFrame(
    [
        {"beams": beams, "length_penalty": p, "bleu_4": 15 + p, "length": 12 - beams / 3}
        for beams in (1, 2, 3, 5, 10)
        for p in (0.5, 0.7, 1.0)
    ]
)
MEMORY = pd.DataFrame({name: np.linspace(1, 0.1 * i, 15) for i, name in enumerate(DECODERS)})
COSTS = pd.DataFrame(
    {"parameters": 3_000_000, "ms per step": 123.4, "ms per caption": 2.5}, index=list(DECODERS)
)

CHARTS = {
    "caption lengths": lambda: plots.caption_lengths(
        {"train": RNG.poisson(10, 500), "test": RNG.poisson(10, 90)}, 23
    ),
    "word frequencies": lambda: plots.word_frequencies(WORDS, 100),
    "frequent words": lambda: plots.frequent_words(WORDS),
    "agreement": lambda: plots.agreement(RNG.gamma(2, 20, 500), "CIDEr-D"),
    "training curves": lambda: plots.training_curves(dict.fromkeys(DECODERS, HISTORY)),
    "reward curves": lambda: plots.reward_curves({"bleu_4": REWARDED, "mix": REWARDED}),
    "word map": lambda: plots.word_map(
        RNG.normal(0, 1, (12, 9)), WORDS.index[:12], ["animal", "colour", "person"] * 4
    ),
    "shares": lambda: plots.scores_by_share(SHARES),
    "along a line": lambda: plots.reward_along_a_line(LINE),
    "metric bars": lambda: plots.metric_bars(SCORES, "bleu_4"),
    "bars of truth": lambda: plots.metric_bars(SCORES, "true_captions"),
    "beams": lambda: plots.beam_curve(BEAMS),
    "memory": lambda: plots.memory_curves(MEMORY),
    "error kinds": lambda: plots.error_kinds(
        pd.Series({"a colour that nobody named": 0.2, "an end in the middle": 0.01}), 500
    ),
}
PICTURES = {
    "captioned images": lambda: plots.captioned_images([PHOTO] * 4, [SAID] * 4),
    "gallery of captions": lambda: plots.caption_gallery([PHOTO] * 2, SAID[:2], [SAID] * 2, [9, 0]),
    "feature maps": lambda: plots.feature_maps(PHOTO, MAPS),
    "similarity": lambda: plots.region_similarity(PHOTO, MAPS, (3, 3)),
    "attention": lambda: plots.attention_words(PHOTO, SAID[0].split(), ATTENTION),
    "ladder": plots.ladder_diagram,
    "costs": lambda: plots.cost_per_step(COSTS),
}
# Second figures of a function.
VARIANTS = {"bars of truth"}
