"""Recipes: every hyper-parameter of every training, by profile."""

from common.training.recipes.base import PROFILES, resolve_profile
from common.training.recipes.captioning import (
    BASELINES,
    CaptionRecipe,
    RewardRecipe,
    caption_recipe,
    captioner_settings,
    decoder_arguments,
    kind_of,
    reward_recipe,
)
from common.training.recipes.classification import (
    AUGMENTATIONS,
    FLIPS,
    IMBALANCES,
    NETWORKS,
    PAPER,
    PATCHES,
    PATIENTS,
    PHASE2_NETWORKS,
    PHASE2_RECIPES,
    RECIPES,
    TEST_IMAGES,
    TRAIN_IMAGES,
    Recipe,
    ablations,
    augmented,
    for_images,
    recipe,
    with_batch_size,
)
