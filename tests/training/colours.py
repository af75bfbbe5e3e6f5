"""Made-up features of images that have a colour, and captions that name it, for tests."""

import keras
import numpy as np

from common.models.captioning import DECODERS
from common.training.teacher_forcing import CaptionedFeatures

COLOURS = ("red", "blue", "green")
KINDS = ("attention_lstm", "multi_head")
# Decoders that learn to name them: with TensorFlow all, elsewhere one of each kind.
LEARNERS = tuple(DECODERS) if keras.backend.backend() == "tensorflow" else KINDS


def coloured(count, captions, seed=0):
    """Features `(count, 4, 5)` that tell a colour, and captions; its name replaces their "X".

    The first of `captions` has to have one.
    """
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 3, count)
    features = rng.normal(0, 0.1, (count, 4, 5)).astype("float16")
    features[np.arange(count), :, which] += 1
    references = [[text.replace("X", COLOURS[i]).split() for text in captions] for i in which]
    return CaptionedFeatures(features, references, features[:, ::-1].copy())


def names_the_colour(captions, references):
    """1 for a caption that names the colour of its image and no other, else 0."""
    wanted = [next(w for w in image[0] if w in COLOURS) for image in references]
    pairs = zip(captions, wanted, strict=True)
    return np.array([[w for w in c if w in COLOURS] == [colour] for c, colour in pairs], float)


def right_colours(captions, references):
    """Share of `names_the_colour`."""
    return float(names_the_colour(captions, references).mean())
