"""What can be chosen by name, known without importing what the names stand for.

So a wrong one is told at once. A test compares the lists with the code that they are of.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.errors import ConfigError, DataError, did_you_mean, unknown
from common.paths import data_dir, display, expand, visible

# --- data sets ---

# What is downloaded of those that are not found under COURSE_DATA.
DOWNLOADS = {
    "cifar10": "170 MB",
    "histopathology": "1.6 GB",
    "flickr8k": "1.1 GB",
    "flickr30k": "4.4 GB",
    "coco": "250 MB of captions, and 160 MB for 1,000 photos",
}
DOWNLOADS["coco-karpathy"] = DOWNLOADS["coco"]

DATASETS = {
    "synthetic": "ten shapes drawn by code, no download",
    "cifar10": f"CIFAR-10, found under COURSE_DATA or downloaded there ({DOWNLOADS['cifar10']})",
    "folder:PATH": "images of your own in PATH/train/<class>/ and PATH/test/<class>/",
}
PATCH_DATASETS = {
    "synthetic": "slides drawn by code, no download",
    "histopathology": "the IDC set, found under COURSE_DATA or downloaded there "
    f"({DOWNLOADS['histopathology']})",
    "folder:PATH": "patches of your own in PATH/<patient>/<0|1>/",
}
CAPTION_DATASETS = {
    "synthetic": "scenes of coloured shapes drawn by code, no download",
    "flickr8k": f"Flickr8k, found under COURSE_DATA or downloaded there ({DOWNLOADS['flickr8k']})",
    "flickr30k": f"Flickr30k, the same, from Kaggle ({DOWNLOADS['flickr30k']})",
    "coco": f"40,000 images of MSCOCO, the same ({DOWNLOADS['coco']}); coco:N: so many",
    "coco-karpathy": "the same from the parts of Karpathy's split; also with :N",
    "folder:PATH": "photos of your own in PATH, with captions in metadata.jsonl, metadata.csv or "
    "captions.txt",
}
PHASES = {
    "phase1_cifar": DATASETS,
    "phase2_histopathology": PATCH_DATASETS,
    "phase3_captioning": CAPTION_DATASETS,
}
# The data set of each phase where none is named.
REAL_DATA = {
    "phase1_cifar": "cifar10",
    "phase2_histopathology": "histopathology",
    "phase3_captioning": "flickr8k",
}
OWN = "folder:PATH"
# Where captions of one's own stand: the first two are Hugging Face's names, the last is Kaggle's.
CAPTION_FILES = ("metadata.jsonl", "metadata.csv", "captions.txt")
# Comparisons of many trainings: `common.training.studies`.
STUDIES = {
    "phase1_cifar": tuple("degradation ablation stages_blocks stages_blocks_time resnet20".split()),
    "phase2_histopathology": tuple(
        "networks augmentation stain imbalance resolution leak folds".split()
    ),
    "phase3_captioning": ("backbones", "vectors", "ladder", "ladder_own"),
}


def resolve_dataset(phase: str, dataset: str | Path | None = None) -> str:
    """The data set to use: the given one, else `COURSE_DATASET`, else the phase's real one.

    Args:
        phase: One of `PHASES`.
        dataset: A name, "folder:PATH", or a path.

    Raises:
        ConfigError, DataError: as `check_dataset`; says if the variable named it.
    """
    variable = None if dataset else os.environ.get("COURSE_DATASET")
    if not (dataset or variable):
        return REAL_DATA[phase]
    name = str(dataset or variable)
    try:
        check_dataset(name, [phase])
    except (ConfigError, DataError) as error:
        if not variable:
            raise
        told = f"COURSE_DATASET={visible(name)[:80]!r}: {error}\nSet another one, or unset it."
        raise type(error)(told) from error
    return name


def is_own(dataset: str | Path) -> bool:
    """Whether a data set is a folder of one's own, not one that the course knows by name."""
    name = str(dataset).partition(":")[0]
    return name not in {*DATASETS, *PATCH_DATASETS, *CAPTION_DATASETS}


def own_folder(dataset: str | Path, datasets: dict[str, str]) -> Path:
    """The folder that a data set of one's own names, "folder:PATH" or the path alone.

    Raises:
        ConfigError: if neither a folder nor one of these data sets has the name.
        DataError: if a path leads nowhere.
    """
    name = str(dataset)
    path = name.removeprefix("folder:")
    if is_own(name):
        folder = expand(path)
        try:
            if path.strip() and folder.exists():
                return folder
        except (OSError, ValueError):  # a name that no folder can have
            pass
        if path != name or folder.name != path:
            there = subfolders(folder.parent)
            near = did_you_mean(folder.name, there, path.rstrip("/")[: -len(folder.name)])
            raise DataError(f"There is no folder {path!r}.{near} Wanted: {datasets[OWN]}.")
    raise unknown_dataset(name, datasets)


def unknown_dataset(name: str, datasets: dict[str, str]) -> ConfigError:
    """The error that tells which data sets there are."""
    known = "\n".join(f"  {key}: {what}" for key, what in datasets.items())
    near = did_you_mean(name, [key for key in datasets if key != OWN])
    return ConfigError(f"No data set and no folder is named {name!r}.{near} There are:\n{known}")


def datasets_of(phases: Sequence[str]) -> dict[str, str]:
    """The data sets of these phases, with what each is."""
    known = {key: what for phase in phases for key, what in PHASES[phase].items()}
    if len(phases) > 1:
        known["synthetic"] = "drawn by code, no download"
        known[OWN] = "; ".join(PHASES[phase][OWN] for phase in phases)
    return known


def check_dataset(dataset: str | Path, phases: Sequence[str]) -> None:
    """Makes sure that each of these phases can read a data set, as far as is seen at once.

    Args:
        dataset: A name, "folder:PATH", or a path.
        phases: Some of `PHASES`.

    Raises:
        ConfigError: if one has no data set of that name; says which phase has. If it lies below
            `COURSE_DATA`, and that is no folder.
        DataError: for a folder that is not there, or whose layout is not that of the phase.
    """
    name, own = str(dataset), is_own(dataset)
    takers = [phase for phase in PHASES if takes(phase, name)]
    if not own and set(phases) <= set(takers):
        if name != "synthetic":
            data_dir()
        return
    if own or not takers:
        folder = own_folder(name, datasets_of(phases))
        if len(phases) == 1:
            _check_layout(folder, phases[0])
            return
        takers = [phase for phase, fits in LAYOUTS.items() if fits(folder)] or takers
    elif len(phases) == 1:
        there = ", ".join(PHASES[phases[0]])
        raise ConfigError(f"{name!r} is a data set of {takers[0]}. {phases[0]} has: {there}.")
    raise ConfigError(
        f"{name!r} is for {' or '.join(takers)} alone. Name the phase, as in: "
        f"run {takers[0].partition('_')[0]} --dataset {name}"
    )


def _check_layout(folder: Path, phase: str) -> None:
    """Says which phase's data it is before what is wrong with it for this one."""
    others = [other for other, fits in LAYOUTS.items() if fits(folder)]
    if others and phase not in others:
        raise DataError(
            f"{display(folder)} looks like data for {' or '.join(others)}, not for {phase}, which "
            f"wants {PHASES[phase][OWN].replace('PATH', 'DIR')}. Name another phase or folder."
        )
    CHECKS[phase](folder)


def takes(phase: str, dataset: str) -> bool:
    """Whether a phase knows a data set by its name, or takes folders if it is one."""
    kind, colon, count = dataset.partition(":")
    if is_own(dataset):
        return OWN in PHASES[phase]
    if colon:  # as "coco:1000"
        counted = kind.startswith("coco") and re.fullmatch("[1-9][0-9]{0,8}", count)
        return bool(counted) and kind in PHASES[phase]
    return kind in PHASES[phase]


def subfolders(folder: str | Path) -> set[str]:
    """Names of the folders in a folder, without hidden ones; none if it cannot be read."""
    return {name for name, is_folder in _entries(folder) if is_folder}


def _entries(folder: str | Path) -> Iterator[tuple[str, bool]]:
    """Names of what is not hidden, and whether each is a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from ((entry.name, entry.is_dir()) for entry in entries if entry.name[0] != ".")


def _is_filled(folder: Path) -> bool:
    return any(True for _ in _entries(folder))


def _are_filled(folder: Path) -> bool:
    return all(_is_filled(folder / name) for name in subfolders(folder))


def _has_classes(folder: Path, splits: Sequence[str] = ("train", "test")) -> bool:
    there = [split for split in ("train", "test") if split in splits or (folder / split).is_dir()]
    classes = subfolders(folder / there[0])
    return len(classes) > 1 and all(
        subfolders(folder / split) == classes and _are_filled(folder / split) for split in there
    )


def _has_patients(folder: Path) -> bool:
    return any(
        _is_filled(folder / patient / label)
        for patient in subfolders(folder)
        for label in ("0", "1")
    )


def _has_captions(folder: Path) -> bool:
    places = (folder, folder / "train")
    return any((place / name).is_file() for place in places for name in CAPTION_FILES)


LAYOUTS = {
    "phase1_cifar": _has_classes,
    "phase2_histopathology": _has_patients,
    "phase3_captioning": _has_captions,
}


def check_images(folder: Path, splits: Sequence[str] = ("train", "test")) -> None:
    """Makes sure that images lie in `folder/<split>/<class>/`, as far as is seen at once.

    What does not look right is shown to the reader, which says what is wrong, if it is.

    Raises:
        DataError: if they do not.
    """
    if not _has_classes(folder, splits):
        from common.data.image_folder import read_image_folder

        # First what is not there or has an empty folder: the other split may be large, and would
        # be read whole.
        whole = {split: bool(subfolders(folder / split)) for split in splits}
        for split in sorted(splits, key=lambda s: whole[s] and _are_filled(folder / s)):
            read_image_folder(folder, split)


def check_patches(folder: Path) -> None:
    """The same for patches in `folder/<patient>/<0|1>/`."""
    if not _has_patients(folder):
        from common.data.histopathology import list_patches

        list_patches(folder)


def check_captions(folder: Path) -> None:
    """The same for photos with captions: all but the photos themselves is read, which is quick."""
    from common.data.caption_folder import find_captions

    find_captions(folder)


CHECKS = {
    "phase1_cifar": check_images,
    "phase2_histopathology": check_patches,
    "phase3_captioning": check_captions,
}


def check_study(phase: str, name: str) -> None:
    """Makes sure that a phase has a study of that name.

    Raises:
        ConfigError: if it has none; says which there are.
    """
    if name not in STUDIES[phase]:
        raise unknown(f"{phase} has no study {visible(name)[:80]!r}.", name, STUDIES[phase])


# --- parameters of lessons ---

MODELS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet18")
MODELS += ("fast", "fast_small", "fast_large")
SPLITS = ("patients", "random", "published", "published+unlisted", "leave-one-out")
AUGMENTATIONS = ("symmetries", "stain", "colour", "shift", "cutout", "mixup")
IMBALANCES = ("none", "class_weights", "balanced_batches", "focal")
BACKBONES = ("resnet50", "efficientnetb0", "mobilenet", "scenes")
WEIGHTS = ("imagenet", "random")  # of a backbone; else the path of a file
DECODERS = ("rnn", "lstm", "attention_lstm", "self_attention", "multi_head")
EMBEDDINGS = ("random", "glove", "bert", "keras_bert", "word2vec")
EMBEDDINGS += tuple(f"glove-wiki-gigaword-{size}" for size in (50, 100, 200, 300))
VECTOR_MODES = ("frozen", "projected", "tuned")
BASELINES = ("leave_one_out", "greedy", "none")
REWARDS = ("bleu_4", "cider_d", "mix", "truth")
SCORES = ("bleu_4", "cider_d", "truth")
DEVICES = ("one", "all")
PROFILES = ("smoke", "laptop", "full")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

CHOICES = {
    "model": MODELS,
    "split": SPLITS,
    "augmentation": ("all", "none", *AUGMENTATIONS),
    "imbalance": IMBALANCES,
    "devices": DEVICES,
    "precision": PRECISIONS,
    "decoder": DECODERS,
    "backbone": (*BACKBONES, "mobilenet_WIDTH"),
    "embedding": (*EMBEDDINGS, "glove:PATH", "bert:HANDLE", "keras_bert:PRESET"),
    "vector_mode": VECTOR_MODES,
    "baseline": BASELINES,
    "reward": REWARDS,
}
# Of the choices in capitals.
PATTERNS = {"backbone": r"mobilenet_\d+(\.\d+)?", "embedding": r"(glove|bert|keras_bert):.+"}
# Of parameters whose default is `None` and which have several.
KINDS = {"validation": (int, float), "reward": (str, dict)}


def check_value(name: str, value: Any, default: Any = None) -> None:
    """Makes sure that a parameter of a lesson is one that the code behind it takes.

    Args:
        name: Of the parameter; what is not known here is passed over.
        value: Of the right type.
        default: Always right.

    Raises:
        ConfigError: naming what there is.
    """
    if value is None or value == default:
        return
    if name in CHOICES and isinstance(value, str):
        if value not in CHOICES[name] and not re.fullmatch(PATTERNS.get(name, r"\0"), value):
            there = dict.fromkeys([*([default] if default else []), *CHOICES[name]])
            raise unknown(f"{name}={visible(value)[:80]!r} is unknown.", value, there)
    elif name == "reward" and isinstance(value, dict):
        others = [score for score in value if score not in SCORES]
        if others or not value:
            near = did_you_mean(others[0], SCORES) if others else ""
            raise ConfigError(f"reward={value}: give weights to some of {', '.join(SCORES)}.{near}")
    elif name == "weights":
        if value not in WEIGHTS:
            _check_exists(name, value, "'imagenet', 'random', or the path of a weights file")
    elif name == "lists":
        _check_exists(name, value, "the folder of cases_train.txt, cases_val.txt, cases_test.txt")
    elif isinstance(value, (int, float)):
        for names, right, wanted in RANGES:
            if name in names and not right(value):
                raise ConfigError(f"{name}={value}: it must be {wanted}.")
    if name == "embedding" and str(value).startswith("glove:"):
        path = value.removeprefix("glove:")
        if path not in EMBEDDINGS:
            _check_exists(name, path, "a text file of vectors")


RANGES = (
    (
        ("stages", "blocks", "images", "patients", "epochs", "batch_size", "captions"),
        lambda value: value >= 1,
        "1 or more",
    ),
    (
        ("dropout", "label_smoothing", "region_dropout"),
        lambda value: 0 <= value < 1,
        "at least 0 and below 1",
    ),
    (("learning_rate",), lambda value: value > 0, "more than 0"),
    (("patience", "attention_penalty", "validation"), lambda value: value >= 0, "0 or more"),
)


def _check_exists(name: str, path: str, wanted: str) -> None:
    try:
        there = expand(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        near = did_you_mean(path, WEIGHTS) if name == "weights" else ""
        raise ConfigError(f"{name}={path!r}: there is no such file.{near} Wanted: {wanted}.")
