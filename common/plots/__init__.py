"""Every figure of the lessons: each function takes arrays or tables and returns a `Figure`."""

from common.plots.attention import attention_words
from common.plots.binary import forest_plot, precision_recall_roc, threshold_sweep
from common.plots.caption_data import (
    agreement,
    caption_gallery,
    caption_lengths,
    captioned_images,
    frequent_words,
    word_frequencies,
    word_map,
)
from common.plots.caption_maps import feature_maps, region_similarity
from common.plots.caption_scores import (
    beam_curve,
    error_kinds,
    metric_bars,
    reward_along_a_line,
    reward_curves,
    scores_by_share,
    training_curves,
)
from common.plots.data import (
    channel_histograms,
    class_gallery,
    class_templates,
    distance_histogram,
    mean_images,
    near_duplicates,
    resolution_comparison,
)
from common.plots.decoders import cost_per_step, ladder_diagram, memory_curves
from common.plots.diagrams import block_diagram, network_strip
from common.plots.evaluation import (
    answer_gallery,
    class_scores,
    confusion_matrix,
    mistake_gallery,
    reliability_diagram,
    tta_gain,
)
from common.plots.models import depth_degradation, fields_on_image, gradient_norms, stage_costs
from common.plots.patients import patient_balance, patient_scores, stain_densities
from common.plots.saliency import randomisation_curves, saliency_overlays
from common.plots.slides import labelled_slides, probability_maps
from common.plots.style import mosaic_figure, png, save_figure, show, use_style
from common.plots.training import (
    ablation,
    accuracy_against_minutes,
    compare_runs,
    learning_curves,
    learning_rate_finder,
    learning_rate_schedules,
    singular_values,
    stages_by_blocks,
)
