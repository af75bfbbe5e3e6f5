"""What captioners are trained and judged on: captioned images, their features, the words."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from common.choices import WEIGHTS
from common.data import is_own, load_captions
from common.data.captions import CaptionData
from common.data.vocabulary import Vocabulary
from common.data.word_vectors import DEFAULT as DEFAULT_GLOVE
from common.data.word_vectors import GLOVE, WordVectors, learn_vectors, load_glove, word_vectors
from common.errors import ConfigError, DataError
from common.files import file_hash
from common.models.backbones import backbone as pretrained
from common.models.backbones import weights_hash
from common.models.captioning import Decoder, decoder
from common.models.hub_bert import HANDLE as BERT
from common.models.hub_bert import PRESET, bert_vectors, keras_bert_vectors
from common.paths import data_dir, expand
from common.training.features import extract_features
from common.training.generation import build_decoder
from common.training.recipes import kind_of, resolve_profile
from common.training.recipes.captioning import SIZES
from common.training.runs import fingerprint
from common.training.scene_backbone import scene_backbone

logger = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
SCENES = "scenes"  # the backbone of the data set that is drawn by code
BACKBONE = "mobilenet_0.75"  # of photos
MIN_COUNT = {"synthetic": 1, "photos": 5}
# Images used in profile `smoke`.
SMOKE = {"train": 600, "dev": 100, "test": 100}


class Rows:
    """Some rows of an array that lies on the disk, read as they are asked for.

    Args:
        array: `(n, ...)`, such as a memory map.
        rows: Their numbers.
    """

    def __init__(self, array: np.ndarray, rows: Sequence[int]):
        self.array, self.rows = array, np.asarray(rows, int)
        self.shape, self.dtype = (len(self.rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        return self.array[self.rows[index]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class CaptionedFeatures:
    """Features of images with the captions of each.

    Args:
        features: float16 `(images, N, channels)`; may be a memory map, or `Rows` of one.
        references: The words of every caption, by image.
        mirrored: Features of the mirrored images, or `None`.

    Raises:
        DataError: if the numbers of images differ.
    """

    features: np.ndarray | Rows
    references: list[list[list[str]]]
    mirrored: np.ndarray | Rows | None = None

    def __post_init__(self):
        if len(self.features) != len(self.references):
            raise DataError(
                f"Features of {len(self.features)} images, but captions of "
                f"{len(self.references)}. Extract the features of the same images."
            )

    def __len__(self) -> int:
        return len(self.references)

    def subset(self, indices) -> "CaptionedFeatures":
        """The images at `indices`, in that order."""
        return replace(
            self,
            features=self.features[indices],
            references=[self.references[i] for i in indices],
            mirrored=None if self.mirrored is None else self.mirrored[indices],
        )


@dataclass(frozen=True, eq=False)
class CaptionTask:
    """All that a captioner is trained and judged on.

    Attributes:
        dataset: Name of the data set.
        data: The captioned images by split; those that could not be read are left out.
        features: Their features by split, in the same order.
        vocabulary: Of the training captions.
        backbone: `name`, `weights`, `hash` and `shape` (regions in height and width, channels).
        images: By split, a fingerprint of the images that the features are of.
    """

    dataset: str
    data: dict[str, CaptionData]
    features: dict[str, CaptionedFeatures]
    vocabulary: Vocabulary
    backbone: dict
    images: dict[str, str]

    def description(self) -> dict:
        """What a run on this task was made of: how many images, and fingerprints of it all.

        `images`: of the pixels of all splits; `captions`: of what people said of them;
        `vocabulary`: of the words in their order.
        """
        return {
            **{f"n_{split}": len(self.data[split]) for split in SPLITS},
            "images": fingerprint([self.images[split] for split in SPLITS]),
            "captions": fingerprint([self.data[split].fingerprint_captions() for split in SPLITS]),
            "vocabulary": self.vocabulary.fingerprint(),
        }

    def fingerprint(self) -> str:
        """Sixteen digits of `description`."""
        return fingerprint(self.description())

    def describe_run(self, arguments: dict) -> dict:
        """What makes a run of a captioner on this task what it is.

        Args:
            arguments: Of the decoder, with its `name`.
        """
        return {
            "decoder": {**arguments, "vocabulary_size": len(self.vocabulary)},
            "backbone": self.backbone,
            "data": self.description(),
            "min_count": self.vocabulary.min_count,
        }

    def keep_vocabulary(self, folder: str | Path | None) -> None:
        """Puts the words into the folder of a run, if there is one."""
        if folder is not None:
            self.vocabulary.save(Path(folder) / "vocabulary.json")

    def build(
        self, name: str, seed: int = 0, vectors: WordVectors | None = None, **arguments
    ) -> Decoder:
        """An untrained decoder of the ladder for this task, its weights from `seed`.

        With `vectors` its words begin with those; `vector_mode` says what is learned of them.
        """
        keras.utils.set_random_seed(seed)
        if vectors is not None:
            arguments |= {"vector_dim": vectors.vectors.shape[1]}
        made = decoder(name, len(self.vocabulary), seed=seed, **arguments)
        height, width, channels = self.backbone["shape"]
        build_decoder(made, height * width, channels)
        if vectors is not None:
            made.embedding.set_vectors(vectors.vectors)
        return made


def embedding_vectors(
    embedding: str, vocabulary: Vocabulary, captions: list[list[str]]
) -> WordVectors | None:
    """The word vectors that a decoder begins with.

    Args:
        embedding: "random" for none; "glove" or one of `common.data.word_vectors.GLOVE`; "bert" and
            "keras_bert" (of TensorFlow Hub and of KerasHub); "glove:PATH", "bert:HANDLE" or
            "keras_bert:PRESET" for a file, or an encoder, of your own (also the name of a folder in
            `COURSE_DATA`); "word2vec" for vectors that are learned from the captions alone.
        vocabulary: The words.
        captions: The training captions, as lists of words.

    Raises:
        ConfigError: for an unknown name.
        DataError: if the vectors cannot be had.
    """
    kind, _, source = embedding.partition(":")
    if kind in GLOVE:
        kind, source = "glove", embedding
    if kind == "random":
        return None
    if kind == "glove":
        source = source or DEFAULT_GLOVE
        return word_vectors(vocabulary, load_glove(source), f"GloVe ({source})")
    if kind in ("bert", "keras_bert"):
        source = _encoder_folder(source) or source
    if kind == "bert":
        return bert_vectors(vocabulary, source or BERT)
    if kind == "keras_bert":
        return keras_bert_vectors(vocabulary, source or PRESET)
    if kind == "word2vec":
        return word_vectors(vocabulary, learn_vectors(captions), "word2vec on the captions")
    raise ConfigError(
        f"embedding={embedding!r} is unknown. Choose one of: random, glove, bert, keras_bert, "
        f"word2vec, glove:PATH, bert:HANDLE, keras_bert:PRESET, {', '.join(GLOVE)}."
    )


def embedding_identity(embedding: str, vectors: WordVectors | None) -> dict:
    """What a run keeps of the vectors that it began with, see `captioner_config`.

    Of a file or folder its content, wherever it lies; another encoder is told by its name.
    """
    if vectors is None:
        return {}
    kind, colon, source = embedding.partition(":")
    name = f"{kind}{colon}{Path(source).name}"
    if kind in ("glove", *GLOVE):
        return {"embedding": name, "vectors": vectors.fingerprint()}
    folder = _encoder_folder(source)
    if folder is None:
        return {"embedding": embedding}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [[path.relative_to(folder).as_posix(), file_hash(path)] for path in files]
    return {"embedding": name, "vectors": fingerprint(told)}


def _encoder_folder(source: str) -> Path | None:
    """The folder that is meant by the name of an encoder, if it is one."""
    places = (data_dir() / source, expand(source)) if source else ()
    return next((place for place in places if place.is_dir()), None)


def image_backbone(name: str, weights: str | Path = "imagenet") -> keras.Model:
    """A backbone by name: one of `common.models.backbones`, or "scenes", the course's own."""
    return scene_backbone() if name == SCENES else pretrained(name, weights)


def _told(weights: str | Path) -> str:
    """How a run keeps where its backbone's weights are: of a file so that it is found again."""
    return str(weights if weights in WEIGHTS else expand(weights).absolute())


def min_count_of(dataset: str, captions: int) -> int:
    """How often a word has to occur to be in the vocabulary of so many training captions.

    Of one's own captions once, and once more for each 1,000 of them up to what photos need: where
    there are few, most words stand in one caption only.
    """
    most = MIN_COUNT[kind_of(dataset)]
    return min(most, 1 + captions // 1000) if is_own(dataset) else most


def caption_task(
    dataset: str,
    profile: str | None = None,
    *,
    backbone: str | None = None,
    weights: str | Path = "imagenet",
    mirrored: bool = False,
    min_count: int | None = None,
    vocabulary: Vocabulary | None = None,
    limits: dict[str, int] | None = None,
    progress: bool = True,
) -> CaptionTask:
    """Loads a data set and extracts the features that are not there yet.

    Args:
        dataset: As for `load_captions`.
        profile: In `smoke` a part of the photos is used.
        backbone: By default "scenes" for what is drawn by code, `BACKBONE` for photos.
        weights: Of the backbone: "imagenet", "random", or a file.
        mirrored: Features of the mirrored training images, too.
        min_count: How often a word has to occur in the training captions; `None`: `min_count_of`.
        vocabulary: That of a trained captioner, in place of one of the training captions.
        limits: Images used by split, the first ones.
        progress: Show progress bars.
    """
    kind = kind_of(dataset)
    if limits is None:
        limits = SMOKE if kind == "photos" and resolve_profile(profile) == "smoke" else {}
    name = backbone or (SCENES if kind == "synthetic" else BACKBONE)
    network = image_backbone(name, weights)
    data, features, fingerprints = {}, {}, {}
    for split in SPLITS:
        images = load_captions(dataset, split, limits.get(split))
        plain = extract_features(images, network, name, progress=progress)
        arrays = [plain]
        if mirrored and split == "train":
            arrays.append(extract_features(images, network, name, mirrored=True, progress=progress))
        usable = [
            i for i, image in enumerate(images.names) if not any(image in a.bad for a in arrays)
        ]
        whole = len(usable) == len(images)
        fingerprints[split] = plain.key.images
        data[split] = images if whole else images.subset(usable)
        maps = [part.array if whole else Rows(part.array, usable) for part in arrays]
        features[split] = CaptionedFeatures(maps[0], data[split].references, *maps[1:])
    if vocabulary is None:
        words = [caption for captions in features["train"].references for caption in captions]
        vocabulary = Vocabulary.build(words, min_count or min_count_of(dataset, len(words)))
        longest = SIZES[kind]["max_length"] - 2  # `<start>` and `<end>` have their places
        cut = sum(len(caption) > longest for caption in words)
        if cut and is_own(dataset):
            told = "%s: %d of %d training captions have more than %d words; they are cut there."
            logger.warning(told, data["train"].name, cut, len(words), longest)
    described = {
        "name": name,
        "weights": _told(weights) if name != SCENES else "released",
        "hash": weights_hash(network),
        "shape": list(network.output_shape[1:]),
    }
    return CaptionTask(dataset, data, features, vocabulary, described, fingerprints)
