"""Comparisons of many trainings, whose tables lessons show and whose single arms they train."""

from common.choices import check_study
from common.training.studies import phase1, phase2, phase3
from common.training.studies.base import Study, read_results, results_file
from common.training.studies.captions import CaptionArm, CaptionStudy
from common.training.studies.images import Arm, ImageStudy

MAKERS = {
    "phase1_cifar": phase1.MAKERS,
    "phase2_histopathology": phase2.MAKERS,
    "phase3_captioning": phase3.MAKERS,
}


def find_study(phase: str, name: str) -> ImageStudy | CaptionStudy:
    """A study by its name, one of `common.choices.STUDIES`.

    Raises:
        ConfigError: if the phase has none of that name.
    """
    check_study(phase, name)
    return MAKERS[phase][name]()
