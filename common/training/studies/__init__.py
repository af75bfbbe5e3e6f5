"""Comparisons of many trainings, whose tables lessons show and whose single arms they train."""

from common.choices import check_study
from common.training.studies import phase1, phase2
from common.training.studies.base import Arm, Study, read_results, results_file

MAKERS = {"phase1_cifar": phase1.MAKERS, "phase2_histopathology": phase2.MAKERS}


def find_study(phase: str, name: str) -> Study:
    """A study by its name, one of `common.choices.STUDIES`.

    Raises:
        ConfigError: if the phase has none of that name.
    """
    check_study(phase, name)
    return MAKERS[phase][name]()
