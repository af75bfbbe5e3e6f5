"""Small decoders with random weights, for tests."""

import keras
import numpy as np

from common.models.captioning import DECODERS, decoder
from common.training.generation import build_decoder

NAMES = list(DECODERS)
WITH_ATTENTION = NAMES[2:]
WORDS, LENGTH, REGIONS, CHANNELS = 11, 9, 6, 5
FEATURES = np.random.default_rng(0).standard_normal((4, REGIONS, CHANNELS)).astype("float32")
# Which regions are seen: of the last image all, of each of the others some.
SOME_HIDDEN = np.array([[1, 0, 1, 1, 0, 1], [0, 0, 0, 1, 0, 0], [1, 1, 1, 0, 1, 1], [1] * 6], bool)


def small_decoder(name, seed=0, **arguments):
    """A decoder whose weights are all random and large enough to matter, biases included."""
    recurrent = {"units": 7} if name in NAMES[:3] else {"num_blocks": 2}
    heads = {"num_heads": 2} if name == "multi_head" else {}
    options = {"width": 8, "max_length": LENGTH, **recurrent, **heads, **arguments}
    keras.utils.set_random_seed(seed)
    made = build_decoder(decoder(name, WORDS, **options), REGIONS, CHANNELS)
    rng = np.random.default_rng(seed)
    made.set_weights([rng.standard_normal(w.shape) * 0.5 for w in made.get_weights()])
    return made


def random_tokens(rows, captions=None, seed=0):
    """Words (B, [K,] T) that begin with `<start>`, no special ones after it."""
    shape = (rows, LENGTH) if captions is None else (rows, captions, LENGTH)
    tokens = np.random.default_rng(seed).integers(4, WORDS, shape).astype("int32")
    tokens[..., 0] = 1
    return tokens
