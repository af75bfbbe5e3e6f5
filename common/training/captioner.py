"""Photos in, captions out."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from common.data.vocabulary import Vocabulary
from common.models.backbones import weights_hash
from common.models.captioning import Decoder
from common.training.caption_task import image_backbone
from common.training.features import BATCH, Extractor, require_backbone, to_input
from common.training.generation import Generator
from common.training.released import released_captioner
from common.training.run_folders import run_folder
from common.training.store import read_captioner, read_captioner_record


class Captioner:
    """Photos in, captions out: a backbone and a trained decoder with its vocabulary.

    Args:
        decoder: The decoder.
        vocabulary: Its words.
        backbone: From uint8 images to features.
        record: Of the training.
        batch_size: Images at a time.

    Raises:
        DataError: if vocabulary or backbone are not those that the decoder was trained with.
    """

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        backbone: keras.Model,
        record: dict,
        batch_size: int = 32,
    ):
        described = record["backbone"]
        require_backbone(
            (described["name"], weights_hash(backbone)), (described["name"], described["hash"])
        )
        self.decoder = decoder
        self.vocabulary = vocabulary
        self.record = record
        self.shape = tuple(described["shape"][:2])
        self.generator = Generator(decoder, vocabulary, batch_size)
        self.extractor = Extractor(backbone, min(batch_size, BATCH))

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features `(n, N, channels)` of images of any sizes, uint8 `(H, W, 3)` each.

        Through float16, as in training.
        """
        size, step = self.extractor.size, self.extractor.batch_size
        parts = []
        for start in range(0, len(images), step):
            batch = [to_input(image, size) for image in images[start : start + step]]
            parts.append(self.extractor(np.stack(batch)).astype("float16"))
        return np.concatenate(parts)

    def captions(
        self, images: Sequence[np.ndarray], beams: int | None = None, **options
    ) -> list[list[str]]:
        """The words of a caption of each image; see `scored_captions`."""
        return self.scored_captions(self.features(images), beams, **options)[0]

    def scored_captions(
        self, features: np.ndarray, beams: int | None = None, **options
    ) -> tuple[list[list[str]], np.ndarray]:
        """The words of a caption of each image, and their mean log-probabilities `(n,)`.

        Args:
            features: `(n, N, channels)`.
            beams: Width of the beam; 1 for greedy; `None` for what was best on dev images.
            **options: Of `decoding.beam_search`, or of `decoding.sample` for greedy captions.
        """
        chosen = self.record["decoding"]
        beams = beams or chosen["beams"]
        if beams == 1:
            return self.generator.scored_captions(features, **options)
        options = {"length_penalty": chosen["length_penalty"], **options}
        return self.generator.scored_captions(features, "beam", beams=beams, **options)

    def attention(
        self, features: np.ndarray, captions: Sequence[Sequence[str]]
    ) -> list[np.ndarray] | None:
        """Where the decoder looked for each word of captions; see `Generator.attention`.

        `(words, blocks, heads, height, width)` each; `None` for a decoder without attention.
        """
        found = self.generator.attention(features, captions)
        if found is None:
            return None
        return [looked.reshape(*looked.shape[:-1], *self.shape) for looked in found]


def load_captioner(run: str | Path | None = None, batch_size: int = 32) -> Captioner:
    """A trained captioner in float32, with its backbone.

    Args:
        run: Name of a finished run under `outputs/runs`, or the path of its folder; `None` for
            the best weights that the repository carries.
        batch_size: Images at a time.

    Raises:
        ConfigError: if there is no such run, or it has not finished.
        DataError: if its files are damaged, or the weights of the backbone cannot be had or are
            not those of the training.
    """
    folder = released_captioner() if run is None else run_folder(run)
    record = read_captioner_record(folder)
    trained, vocabulary = read_captioner(folder)
    described = record["backbone"]
    network = image_backbone(described["name"], described["weights"])
    return Captioner(trained, vocabulary, network, record, batch_size)
