"""The comparisons of phase 2. The patients of the test take part in none that chooses anything."""

from dataclasses import replace

import numpy as np

from common.data.images import ImageData
from common.data.splits import patient_folds, split_at_random, split_by_patient
from common.data.stains import patient_stains, with_stains
from common.layers.stain import mean_stains
from common.models.resnet import preset
from common.training.recipes import AUGMENTATIONS, IMBALANCES, augmented, recipe
from common.training.studies.images import Arm, ImageStudy

PHASE = "phase2_histopathology"
# Rates of Muon for a network whose logits are not scaled down: its SGD's, per image.
_ORDINARY_HEAD = {"other_learning_rate": 2e-4, "head_learning_rate": 2e-4}


def _study(name: str, question: str, arms: dict[str, Arm], **options) -> ImageStudy:
    return ImageStudy(name, PHASE, question, arms, own_statistics=True, **options)


def _networks() -> ImageStudy:
    def arm(network, muon: bool) -> Arm:
        plan = recipe("laptop", classic=not muon, phase=PHASE, epochs=6)
        if muon and network.head_scale is None:
            plan = replace(plan, **_ORDINARY_HEAD)
        return Arm(network, plan)

    resnet8 = preset("resnet20", blocks=1)
    arms = {
        "fast_small": arm(preset("fast_small"), True),
        "fast": arm(preset("fast"), True),
        "ResNet-8, Muon": arm(resnet8, True),
    }
    sgd = {
        "ResNet-8": resnet8,
        "ResNet-14": preset("resnet20", blocks=2),
        "ResNet-20": preset("resnet20"),
        "ResNet-8, 2 stages": preset("resnet20", stages=2, blocks=1),
        "ResNet-8, 4 stages": preset("resnet20", stages=4, blocks=1),
        "ResNet-8, bottleneck": replace(resnet8, block="bottleneck"),
        "ResNet-8, pre-activation": replace(resnet8, preactivation=True),
        "ResNet-8, squeeze-excitation": replace(resnet8, squeeze_excitation=8),
        "ResNet-8, shortcut B": replace(resnet8, shortcut="B"),
    }
    arms |= {name: arm(network, False) for name, network in sgd.items()}
    return _study("networks", "Which network suits fifty pixels?", arms, images=8000)


def _augmentation() -> ImageStudy:
    plan = recipe("laptop", phase=PHASE)
    arms = {
        kind: Arm(preset("fast_small"), augmented(plan, kind))
        for kind in ("none", *AUGMENTATIONS, "all")
    }
    return _study("augmentation", "Which augmentation helps on patients not seen?", arms)


def _stain() -> ImageStudy:
    plan = recipe("laptop", phase=PHASE)
    arms = {
        f"jitter {strength:g}": Arm(preset("fast_small"), replace(plan, stain=strength))
        for strength in (0.0, 0.05, 0.1, 0.2, 0.3)
    }
    arms["normalised"] = Arm(preset("fast_small"), replace(plan, stain=0.0), _normalised)
    arms["normalised, jitter 0.05"] = Arm(
        preset("fast_small"), replace(plan, stain=0.05), _normalised
    )
    return _study("stain", "Jitter the stains, or normalise them?", arms)


def _normalised(train: ImageData, validation: ImageData, seed: int) -> tuple[ImageData, ImageData]:
    found = patient_stains(train)
    target = mean_stains(list(found.values()))
    return with_stains(train, target, found), with_stains(validation, target)


def _imbalance() -> ImageStudy:
    plan = recipe("laptop", phase=PHASE)
    arms = {kind: Arm(preset("fast_small"), replace(plan, imbalance=kind)) for kind in IMBALANCES}
    return _study("imbalance", "What is to be done about classes of unequal size?", arms)


def _resolution() -> ImageStudy:
    plan = recipe("laptop", phase=PHASE)
    ways = {
        "24 pixels": ((1.0, 24),),
        "36 pixels": ((1.0, 36),),
        "50 pixels": (),
        "24, then 36, then 50": ((0.4, 24), (0.3, 36), (0.3, 50)),
    }
    arms = {
        name: Arm(preset("fast_small"), replace(plan, sizes=sizes)) for name, sizes in ways.items()
    }
    return _study("resolution", "How many pixels does it take?", arms)


def _leak() -> ImageStudy:
    plan = recipe("laptop", phase=PHASE)
    arms = {
        "patches at random": Arm(preset("fast_small"), plan, _divided(split_at_random)),
        "whole patients": Arm(preset("fast_small"), plan, _divided(split_by_patient)),
    }
    return _study("leak", "What does a leaky split add to a score?", arms, seeds=(0, 1, 2, 3, 4))


def _divided(split):
    """Another division of the same patches for each seed: a fifth is judged, the rest trains."""

    def parts(train: ImageData, validation: ImageData, seed: int) -> tuple[ImageData, ImageData]:
        splits = split(_together(train, validation), seed=seed)
        return _together(splits.train, splits.validation), splits.test

    return parts


def _folds() -> ImageStudy:
    """The networks of the release: each patient is judged by the one that has not seen it."""
    network, plan, count = preset("fast_small"), recipe("laptop", phase=PHASE), 5
    arms = {
        f"fold {number + 1} of {count}": Arm(network, plan, _fold(number, count))
        for number in range(count)
    }
    question = "How good is it for patients whom no network that judges them has seen?"
    return _study("folds", question, arms, seeds=(0,), everyone=True)


def _fold(number: int, count: int):
    def parts(train: ImageData, validation: ImageData, seed: int) -> tuple[ImageData, ImageData]:
        return patient_folds(train, count)[number]  # every patient is in `train`

    return parts


def _together(first: ImageData, second: ImageData) -> ImageData:
    """The patches of both; where they lay on their slides is left out."""
    return ImageData(
        images=np.concatenate([first.images, second.images]),
        labels=np.concatenate([first.labels, second.labels]),
        classes=first.classes,
        name=first.name,
        split="train",
        groups=np.concatenate([first.groups, second.groups]),
    )


MAKERS = {
    "networks": _networks,
    "augmentation": _augmentation,
    "stain": _stain,
    "imbalance": _imbalance,
    "resolution": _resolution,
    "leak": _leak,
    "folds": _folds,
}
