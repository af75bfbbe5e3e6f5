"""Every figure of the lessons: each function takes arrays or tables and returns a `Figure`."""

from common.plots.data import (
    channel_histograms,
    class_balance,
    class_gallery,
    distance_histogram,
    mean_images,
    near_duplicates,
    resolution_comparison,
)
from common.plots.evaluation import (
    class_scores,
    confusion_matrix,
    mistake_gallery,
    reliability_diagram,
    robustness,
    saliency_overlays,
    tta_gain,
)
from common.plots.models import depth_degradation, gradient_norms, stage_costs
from common.plots.style import mosaic_figure, png, save_figure, use_style
from common.plots.training import (
    ablation,
    accuracy_against,
    compare_runs,
    learning_curves,
    learning_rate_finder,
    stages_by_blocks,
)

__all__ = [
    "ablation",
    "accuracy_against",
    "channel_histograms",
    "class_balance",
    "class_gallery",
    "class_scores",
    "compare_runs",
    "confusion_matrix",
    "depth_degradation",
    "distance_histogram",
    "gradient_norms",
    "learning_curves",
    "learning_rate_finder",
    "mean_images",
    "mistake_gallery",
    "mosaic_figure",
    "near_duplicates",
    "png",
    "reliability_diagram",
    "resolution_comparison",
    "robustness",
    "saliency_overlays",
    "save_figure",
    "stage_costs",
    "stages_by_blocks",
    "tta_gain",
    "use_style",
]
