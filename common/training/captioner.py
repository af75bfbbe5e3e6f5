"""Captioners from data to run folder, and back: photos in, captions out."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common.data import load_captions
from common.data.captions import CaptionData
from common.data.vocabulary import Vocabulary
from common.data.word_vectors import DEFAULT as DEFAULT_GLOVE
from common.data.word_vectors import GLOVE, WordVectors, learn_vectors, load_glove, word_vectors
from common.errors import ConfigError, DataError
from common.files import read_json, write_atomically, write_json
from common.models.backbones import backbone as pretrained
from common.models.backbones import weights_hash
from common.models.decoders import Decoder, decoder
from common.models.hub_bert import HANDLE as BERT
from common.models.hub_bert import PRESET, bert_vectors, keras_bert_vectors
from common.training.backend import (
    DeviceSettings,
    device_scope,
    device_settings,
    dtype_policy,
)
from common.training.captioning import CaptionedFeatures, CaptionRecipe, fit_captioner
from common.training.features import BATCH, Extractor, extract_features, require_backbone, to_input
from common.training.fit import FitResult
from common.training.generation import Generator, build_decoder
from common.training.recipes import resolve_profile
from common.training.released import load_weights, released_folder
from common.training.run_folders import run_folder
from common.training.runs import (
    Run,
    check_files,
    file_hashes,
    fingerprint,
    read_model,
    read_record,
)
from common.training.scene_backbone import scene_backbone
from common.training.self_critical import Reward, RewardRecipe, fit_reward

PHASE = "phase3_captioning"
SPLITS = ("train", "dev", "test")
SCENES = "scenes"  # the backbone of the data set that is drawn by code
BACKBONE = "mobilenet_0.75"  # of photos
REWARDED = "rewarded"  # folder of released weights that were trained by a reward

# No label smoothing: who writes scenes' captions is never unsure of what is there.
_SCENES = CaptionRecipe(epochs=4, batch_size=32, learning_rate=2e-3, label_smoothing=0.0)
# By data set ("photos" for all but the one drawn by code) and profile.
RECIPES = {
    ("synthetic", "smoke"): _SCENES,
    ("synthetic", "laptop"): replace(_SCENES, epochs=12),
    ("synthetic", "full"): replace(_SCENES, epochs=12),
    ("photos", "smoke"): CaptionRecipe(epochs=2),
    # Two processor cores. On the 500 dev images of Flickr8k (MobileNet 0.75, seed 0; loss; greedy
    # BLEU-4; BLEU-1 / BLEU-4 by the best beam and exponent), so far:
    #   multi-head, 20 epochs at 2e-3, dropout 0.3, regions 0.2: 2.776, 18.3, 61.6 / 20.5
    #   multi-head, 14 epochs at 1e-3, the same: 2.860, 17.8, 60.9 / 19.7
    #   multi-head, 12 epochs at 1e-3, dropout 0.2, regions 0.33: 2.884, 17.2, 61.1 / 19.5
    #   attention LSTM, 14 epochs at 1e-3, dropout 0.4, regions 0.25, four crops of each image
    #     beside the whole: 2.737, 17.3, 60.1 / 20.3
    #   attention LSTM, 9 epochs, as above, no crops: 2.808, 17.4, 60.1 / 19.7
    #   attention LSTM, 8 epochs at 2e-3, dropout 0.3, no region hidden: 2.737, 16.6, 59.7 / 19.0
    # No gain: captions weighted by how much the other four agree with them; places that start
    # long; the one among ten or twenty captions of a beam that is most like the others.
    ("photos", "laptop"): CaptionRecipe(
        epochs=20, batch_size=32, learning_rate=2e-3, mirrored=True
    ),
    ("photos", "full"): CaptionRecipe(epochs=20, batch_size=64, mirrored=True, patience=4),
}
# From a captioner that was trained by teacher forcing.
REWARD_RECIPES = {
    ("synthetic", "smoke"): RewardRecipe(epochs=1, learning_rate=2e-4),
    ("synthetic", "laptop"): RewardRecipe(epochs=4, learning_rate=2e-4),
    ("synthetic", "full"): RewardRecipe(epochs=8, learning_rate=2e-4),
    ("photos", "smoke"): RewardRecipe(epochs=1),
    # On the 500 dev images of Flickr8k, from the multi-head run (greedy BLEU-4 18.3, CIDEr-D 41.3),
    # four passes with BLEU-4 as reward, the best pass each:
    #   no region hidden: 21.3 and 20.6, two trainings; three in ten hidden: 21.2, 21.2, 21.0, and
    #     at 6e-5 21.2, then less: no difference beyond the noise on dev
    #   dropout of 0.2 in the learning alone: 20.8, then less
    #   the layers that look at the image left as they are: 20.8, and 21.3 after four passes
    ("photos", "laptop"): RewardRecipe(epochs=6, learning_rate=3e-5, region_dropout=0.3),
    ("photos", "full"): RewardRecipe(epochs=20, batch_size=64, region_dropout=0.3, patience=5),
}
SIZES = {
    "synthetic": {"width": 96, "max_length": 16},
    # Where things are is the most of a scene, and little of a photo: places start from zero.
    "photos": {"width": 256, "max_length": 20, "places_std": 0.0},
}
# What the recurrent decoders are made with beside that, and those of self-attention.
RECURRENT = {
    "synthetic": {"units": 128, "dropout": 0.0},
    "photos": {"units": 512, "dropout": 0.4, "region_dropout": 0.25},
}
SELF_ATTENTION = {
    "synthetic": {"dropout": 0.0},
    "photos": {"dropout": 0.3, "region_dropout": 0.2},
}
MIN_COUNT = {"synthetic": 1, "photos": 5}
# How captions are written until a captioner's own way is chosen on dev images.
DECODING = {"method": "beam", "beams": 3, "length_penalty": 0.7}
# Images used in profile `smoke`.
SMOKE = {"train": 600, "dev": 100, "test": 100}


def kind_of(dataset: str) -> str:
    """Which of the tables above holds for a data set."""
    return "synthetic" if dataset == "synthetic" else "photos"


def caption_recipe(profile: str, dataset: str, **overrides) -> CaptionRecipe:
    """The recipe of a profile for a data set, with some values replaced.

    Raises:
        ConfigError: for an unknown profile or hyper-parameter.
    """
    return _replaced(RECIPES[kind_of(dataset), resolve_profile(profile)], overrides)


def reward_recipe(profile: str, dataset: str, **overrides) -> RewardRecipe:
    """As `caption_recipe`, for training by rewards."""
    return _replaced(REWARD_RECIPES[kind_of(dataset), resolve_profile(profile)], overrides)


def _replaced(recipe, overrides: dict):
    values = {key: value for key, value in overrides.items() if value is not None}
    try:
        return replace(recipe, **values)
    except TypeError as error:
        known = ", ".join(type(recipe).__dataclass_fields__)
        raise ConfigError(f"{error}. A {type(recipe).__name__} has: {known}.") from error


def captioner_settings(dataset: str, **options) -> DeviceSettings:
    """`device_settings(**options)`, but float32 where decoders are small, as those of scenes.

    On a CPU they would gain nothing from bfloat16.
    """
    if kind_of(dataset) == "synthetic" and options.get("precision") is None:
        options["precision"] = "float32"
    return device_settings(**options)


def decoder_arguments(name: str, dataset: str) -> dict:
    """What a decoder of the ladder is made with for a data set, beside its vocabulary."""
    kind = kind_of(dataset)
    recurrent = name in ("rnn", "lstm", "attention_lstm")
    return SIZES[kind] | (RECURRENT if recurrent else SELF_ATTENTION)[kind]


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
            "keras_bert:PRESET" for a file, or an encoder, of your own; "word2vec" for vectors that
            are learned from the captions alone.
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

    Of a file its content, wherever it lies; an encoder is told by its name.
    """
    if vectors is None:
        return {}
    kind, colon, source = embedding.partition(":")
    if kind not in ("glove", *GLOVE):
        return {"embedding": embedding}
    name = f"{kind}{colon}{Path(source).name}"
    return {"embedding": name, "vectors": vectors.fingerprint()}


def image_backbone(name: str, weights: str | Path = "imagenet") -> keras.Model:
    """A backbone by name: one of `common.models.backbones`, or "scenes", the course's own."""
    return scene_backbone() if name == SCENES else pretrained(name, weights)


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
        dataset: One of `CAPTION_DATASETS`.
        profile: In `smoke` a part of the photos is used.
        backbone: By default "scenes" for what is drawn by code, `BACKBONE` for photos.
        weights: Of the backbone: "imagenet", "random", or a file.
        mirrored: Features of the mirrored training images, too.
        min_count: How often a word has to occur in the training captions.
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
        maps = [part.array if whole else part.array[usable] for part in arrays]
        features[split] = CaptionedFeatures(maps[0], data[split].references, *maps[1:])
    if vocabulary is None:
        words = (caption for captions in features["train"].references for caption in captions)
        vocabulary = Vocabulary.build(words, min_count or MIN_COUNT[kind])
    described = {
        "name": name,
        "weights": str(weights) if name != SCENES else "released",
        "hash": weights_hash(network),
        "shape": list(network.output_shape[1:]),
    }
    return CaptionTask(dataset, data, features, vocabulary, described, fingerprints)


@dataclass(frozen=True)
class TrainedCaptioner:
    """A trained decoder with its `history` (a row per epoch), `seconds`, and run, if kept.

    Of a run the decoder is in float32, whatever it was trained in: it writes the same captions now,
    when the run is found again, and by `load_captioner`.
    """

    decoder: Decoder
    history: pd.DataFrame
    seconds: float
    run: Run | None


def run_label(task: CaptionTask, profile: str, name: str, seed: int, **changed) -> str:
    """The name of a run, made from what it is of.

    Args:
        task: What is trained on.
        profile: The recipe's.
        name: Of the decoder.
        seed: Of everything random.
        **changed: Hyper-parameters that were given by hand; `None` for those that were not.
    """
    dataset = task.dataset.replace(":", "-")
    parts = [dataset, profile, task.backbone["name"], name, f"seed{seed}"]
    parts += [f"{key}{value}" for key, value in changed.items() if value is not None]
    return "-".join(parts)


def captioner_config(
    name: str,
    arguments: dict,
    task: CaptionTask,
    recipe: CaptionRecipe | RewardRecipe,
    settings: DeviceSettings,
    *,
    profile: str,
    seed: int,
    **more,
) -> dict:
    """What makes a run what it is, as `Run` keeps it and records show it."""
    return {
        "phase": PHASE,
        "dataset": task.dataset,
        "profile": profile,
        "seed": seed,
        "decoder": {"name": name, "vocabulary_size": len(task.vocabulary), **arguments},
        "backbone": task.backbone,
        "recipe": recipe.to_dict(),
        "backend": settings.backend,
        "device": settings.to_dict(),
        "data": task.description(),
        **more,
    }


def train_captioner(
    name: str,
    task: CaptionTask,
    recipe: CaptionRecipe,
    settings: DeviceSettings,
    *,
    arguments: dict | None = None,
    vectors: WordVectors | None = None,
    score: Callable | None = None,
    seed: int = 0,
    run: Run | None = None,
    progress: bool = True,
) -> TrainedCaptioner:
    """Builds and trains a decoder; with a run, goes on where an earlier call was killed.

    With a score and a run it ends with the best epoch, else with the last. A run that has its
    model already is not trained again. It has a record as soon as it is trained: whatever fails
    later, the training is not lost.

    Args:
        name: One of `common.models.decoders.DECODERS`.
        task: Data and features.
        recipe: The hyper-parameters.
        settings: From `device_settings`.
        arguments: Of the decoder; by default those of `decoder_arguments`.
        vectors: Word vectors to begin with, see `embedding_vectors`; by default random numbers.
        score: Of captions of dev images and their references, after each epoch; such as
            `common.evaluation.captioners.bleu_4`.
        seed: Of everything random.
        run: Where the training is kept; `None` keeps nothing.
        progress: Show a progress bar.
    """
    arguments = decoder_arguments(name, task.dataset) if arguments is None else arguments
    with run.hold() if run else nullcontext():
        if run is not None and (run.folder / "model.keras").exists():
            return _found_again(run)
        if run is not None:
            task.vocabulary.save(run.folder / "vocabulary.json")
        with device_scope(settings):
            network = task.build(name, seed, vectors, **arguments)
            result = fit_captioner(
                network,
                task.vocabulary,
                task.features["train"],
                task.features["dev"],
                recipe,
                settings,
                score=score,
                seed=seed,
                folder=run.folder if run else None,
                progress=progress,
            )
        return _kept(network, result, run)


def _kept(network: Decoder, result: FitResult, run: Run | None) -> TrainedCaptioner:
    if run is None:
        return TrainedCaptioner(network, result.history, result.seconds, None)
    run.save_model(network)
    return _found_again(run)


def _found_again(run: Run) -> TrainedCaptioner:
    network, _ = read_captioner(run.folder)
    history = run.history
    if not run.finished:
        last = history.iloc[-1]
        run.save_record(
            metrics={key: float(last[key]) for key in ("val_loss",) if key in history},
            parameters=network.count_params(),
            seconds=run.seconds,
            epochs=len(history),
            decoding=DECODING,
        )
    return TrainedCaptioner(network, history, run.seconds, run)


def standard_run(
    name: str, task: CaptionTask, profile: str, seed: int, score: Callable, progress: bool = True
) -> Run:
    """The run of lesson 5 with its own parameters: found again, or trained now.

    Args:
        name: Of the decoder.
        task: Data and features.
        profile: Of the recipe.
        seed: Of everything random.
        score: See `train_captioner`.
        progress: Show a progress bar.
    """
    settings = captioner_settings(task.dataset)
    recipe = caption_recipe(profile, task.dataset)
    arguments = decoder_arguments(name, task.dataset)
    config = captioner_config(
        name,
        arguments,
        task,
        recipe,
        settings,
        profile=profile,
        seed=seed,
        min_count=task.vocabulary.min_count,
    )
    run = Run.labelled(run_label(task, profile, name, seed), config)
    train_captioner(
        name,
        task,
        recipe,
        settings,
        arguments=arguments,
        score=score,
        seed=seed,
        run=run,
        progress=progress,
    )
    return run


def reward_config(
    before: dict,
    start: Path,
    reward: dict[str, float],
    task: CaptionTask,
    recipe: RewardRecipe,
    settings: DeviceSettings,
    profile: str,
    seed: int,
) -> dict:
    """As `captioner_config`, of a training by a reward.

    Args:
        before: Record or config of the run to start from.
        start: Its folder.
        reward: Weights by the name of the score.
        task, recipe, settings, profile, seed: Of this training.
    """
    arguments = dict(before["decoder"])
    name = arguments.pop("name")
    return captioner_config(
        name,
        arguments,
        task,
        recipe,
        settings,
        profile=profile,
        seed=seed,
        min_count=task.vocabulary.min_count,
        reward=reward,
        start=start.name,
        start_weights=fingerprint(file_hashes(start)),
    )


def train_by_reward(
    start: Path,
    task: CaptionTask,
    reward: Reward,
    recipe: RewardRecipe,
    settings: DeviceSettings,
    *,
    score: Callable,
    seed: int = 0,
    run: Run | None = None,
    progress: bool = True,
) -> TrainedCaptioner:
    """Goes on with a trained captioner, by a reward; otherwise as `train_captioner`.

    Args:
        start: Folder of the run to start from, or of released weights.
        task: Data and features, as that run had them.
        reward: Of captions and the numbers of their training images.
        recipe: The hyper-parameters.
        settings: From `device_settings`.
        score: Of captions of dev images and their references, after each epoch.
        seed: Of everything random.
        run: Where the training is kept; `None` keeps nothing.
        progress: Show a progress bar.

    Raises:
        DataError: if vocabulary or features are not those of the run to start from.
    """
    with run.hold() if run else nullcontext():
        if run is not None and (run.folder / "model.keras").exists():
            return _found_again(run)
        before, vocabulary = read_captioner(start)
        described = read_description(start)
        if vocabulary.words != task.vocabulary.words:
            raise DataError(
                f"The run in {start} has a vocabulary of {len(vocabulary)} words, this task another"
                f" one of {len(task.vocabulary)}: its numbers would mean other words. Use the data "
                "set and min_count of that run, or train a captioner on this task first."
            )
        require_backbone(
            (task.backbone["name"], task.backbone["hash"]),
            (described["backbone"]["name"], described["backbone"]["hash"]),
        )
        if run is not None:
            task.vocabulary.save(run.folder / "vocabulary.json")
        with device_scope(settings):
            network = _build(described)
            network.set_weights(before.get_weights())
            result = fit_reward(
                network,
                task.vocabulary,
                task.features["train"],
                task.features["dev"],
                reward,
                recipe,
                settings,
                score=score,
                seed=seed,
                folder=run.folder if run else None,
                progress=progress,
            )
        return _kept(network, result, run)


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
        """The words of a caption of each image; see `caption_features`."""
        return self.caption_features(self.features(images), beams, **options)

    def caption_features(
        self, features: np.ndarray, beams: int | None = None, **options
    ) -> list[list[str]]:
        """The words of a caption of each image, given its features; see `scored_captions`."""
        return self.scored_captions(features, beams, **options)[0]

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
        """Where the decoder looked at each word of captions, `(words, height, width)` each.

        `None` for a decoder without attention.
        """
        tokens = self.vocabulary.encode(captions, self.generator.length + 1)[:, 1:]
        found = self.generator.attention(features, tokens)
        if found is None:
            return None
        return [
            array[: len(caption)].reshape(-1, *self.shape)
            for array, caption in zip(found, captions, strict=True)
        ]


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


def released_captioner(teacher_forced: bool = False) -> Path:
    """Where the repository keeps its captioner of photos.

    Args:
        teacher_forced: The one that has not been trained by a reward yet, whatever there is.
    """
    folder = released_folder(PHASE)
    rewarded = folder / REWARDED
    return rewarded if rewarded.is_dir() and not teacher_forced else folder


def read_captioner_record(folder: Path) -> dict:
    """The record of a finished captioner.

    Raises:
        ConfigError: if it is of another phase.
        DataError: if it is damaged.
    """
    record = read_record(folder)
    if record.get("phase") != PHASE:
        raise ConfigError(f"The run in {folder} is one of {record.get('phase')}, not of {PHASE}.")
    kinds = {
        "backbone": {"name": str, "weights": str, "hash": str, "shape": list},
        "decoder": {"name": str, "vocabulary_size": int},
        "decoding": {"beams": int, "length_penalty": (int, float)},
    }
    for part, values in kinds.items():
        found = record.get(part)
        for key, kind in values.items():
            if not isinstance(found, dict) or not isinstance(found.get(key), kind):
                raise DataError(
                    f"{folder / 'record.json'} tells no {part}.{key}: it is damaged, or of another "
                    "version of the course. Restore the file, or train anew."
                )
    return record


def read_captioner(folder: Path) -> tuple[Decoder, Vocabulary]:
    """Decoder, in float32, and vocabulary of a run's folder or of released weights.

    Raises:
        DataError: if files are missing or damaged, or do not fit together.
    """
    described = read_description(folder)
    check_files(folder, described)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    path = folder / "model.keras"
    with dtype_policy("float32"):  # whatever precision it was trained in
        if path.exists():
            trained = read_model(path)
            if isinstance(trained, Decoder) and trained.dtype_policy.name != "float32":
                weights, trained = trained.get_weights(), _build(described, folder)
                trained.set_weights(weights)
        else:
            path = folder / "model.weights.h5"
            trained = _build(described, folder)
            load_weights(trained, path)
    if getattr(trained, "vocabulary_size", None) is None:
        raise DataError(f"{path} holds no decoder of captions. Restore the files of one run.")
    if trained.vocabulary_size != len(vocabulary):
        raise DataError(
            f"{folder / 'vocabulary.json'} has {len(vocabulary)} words, the decoder in {path} was "
            f"made for {trained.vocabulary_size}. Restore the files of one run."
        )
    return trained, vocabulary


def release_captioner(run: str | Path) -> tuple[Path, dict]:
    """Writes a run's weights in half precision into the repository, with vocabulary and record.

    Returns:
        The folder, and the record.
    """
    source = run_folder(run)
    record = read_captioner_record(source)
    trained, vocabulary = read_captioner(source)
    folder = released_folder(PHASE) / (REWARDED if "reward" in record else "")
    with dtype_policy("float16"):
        half = _build(record)
    half.set_weights(trained.get_weights())
    with write_atomically(folder / "model.weights.h5") as temporary:
        half.save_weights(temporary, overwrite=True)
    vocabulary.save(folder / "vocabulary.json")
    record["files"] = file_hashes(folder)
    write_json(folder / "record.json", record)
    return folder, record


def read_description(folder: Path) -> dict:
    """What a run, finished or not, or released weights are of: the record, or the config."""
    if (folder / "record.json").exists():
        return read_record(folder)
    return read_json(folder / "config.json", dict)


def _build(record: dict, folder: Path | None = None) -> Decoder:
    try:
        arguments = dict(record["decoder"])
        made = decoder(arguments.pop("name"), arguments.pop("vocabulary_size"), **arguments)
        height, width, channels = record["backbone"]["shape"]
        return build_decoder(made, height * width, channels)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The record of the run{f' in {folder}' if folder else ''} describes no decoder of "
            f"this course ({error}). Restore it, or train anew."
        ) from error
