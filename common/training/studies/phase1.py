"""The comparisons of phase 1."""

from collections.abc import Callable

from common.models.resnet import ResNetConfig, preset
from common.training.recipes import PAPER, Recipe, ablations, for_images, recipe
from common.training.studies.base import read_results
from common.training.studies.images import Arm, ImageStudy

_GRID_EPOCHS = 5


def _degradation() -> ImageStudy:
    plan = Recipe(
        epochs=5,
        batch_size=100,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.9,
        warmup=0.2,
        label_smoothing=0.0,
        flip="none",
        shift=0,
        sizes=((1.0, 16),),
    )
    arms = {}
    for n in (1, 3, 9):
        for kind, residual in (("plain", False), ("residual", True)):
            network = ResNetConfig(blocks=(n, n, n), residual=residual)
            arms[f"{kind} {network.depth}"] = Arm(network, plan)
    question = "Does the training loss of plain and of residual networks fall with depth?"
    return ImageStudy("degradation", "phase1_cifar", question, arms, images=10_000)


def _ablation() -> ImageStudy:
    images = 8000
    plan = for_images(recipe("full", epochs=6), images)
    arms = {name: Arm(preset("fast_small"), plan) for name, plan in ablations(plan).items()}
    question = "What is each ingredient of the recipe worth?"
    return ImageStudy("ablation", "phase1_cifar", question, arms, images=images)


def _grid(name: str, question: str, epochs: Callable[[str], int], **options) -> ImageStudy:
    arms, images = {}, 4000
    for stages in (2, 3, 4):
        for blocks in (1, 2, 3):
            arm = f"{stages} stages, {blocks} block{'s' * (blocks > 1)}"
            network = preset("fast_small", stages=stages, blocks=blocks)
            arms[arm] = Arm(network, for_images(recipe("full", epochs=epochs(arm)), images))
    return ImageStudy(name, "phase1_cifar", question, arms, images=images, **options)


def _stages_blocks() -> ImageStudy:
    question = "Stages or blocks, at equal epochs?"
    return _grid("stages_blocks", question, lambda arm: _GRID_EPOCHS)


def _stages_blocks_time() -> ImageStudy:
    """Each as many epochs as fit into the time of the middle one of `stages_blocks`."""
    made, _ = read_results("phase1_cifar", "stages_blocks")
    of_one = (made["seconds"] / made["epochs"]).groupby(made["arm"]).min()  # the least disturbed
    budget = _GRID_EPOCHS * of_one.median()
    question = "Stages or blocks, at equal time?"
    fitting = {arm: max(1, round(budget / seconds)) for arm, seconds in of_one.items()}
    return _grid("stages_blocks_time", question, fitting.get, seeds=(0, 1))


def _resnet20() -> ImageStudy:
    """A third of the paper's epochs, which reach 91.25 % of the test images."""
    question = "ResNet-20 in 60 epochs: by the paper's recipe, or in one cycle?"
    network = preset("resnet20")
    arms = {
        "the paper's recipe": Arm(network, Recipe(epochs=60, **PAPER)),
        "one cycle": Arm(network, recipe("laptop", classic=True, epochs=60)),
    }
    return ImageStudy("resnet20", "phase1_cifar", question, arms, seeds=(0,))


MAKERS = {
    "degradation": _degradation,
    "ablation": _ablation,
    "stages_blocks": _stages_blocks,
    "stages_blocks_time": _stages_blocks_time,
    "resnet20": _resnet20,
}
