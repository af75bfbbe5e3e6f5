"""Options that several commands have."""

import os
from enum import StrEnum
from typing import Annotated

from typer import Argument, Option

from common.choices import PROFILES
from common.course.checks import check_run
from common.course.environment import BACKENDS
from common.paths import expand

ProfileName = StrEnum("Profile", PROFILES)
BackendName = StrEnum("Backend", BACKENDS)

Phase = Annotated[str, Argument(metavar="PHASE", help="phase1_cifar, phase1 or 1.")]
Dataset = Annotated[
    str | None,
    Option(
        metavar="NAME",
        help="synthetic: drawn by code, in all phases; cifar10, or folder:DIR with "
        "DIR/train/<class>/ and DIR/test/<class>/, for phase 1; histopathology, or folder:DIR with "
        "DIR/<patient>/<0|1>/, for phase 2; flickr8k, flickr30k or coco, or folder:DIR with photos "
        "and captions.txt, metadata.csv or metadata.jsonl, for phase 3. Default: COURSE_DATASET, "
        "else cifar10, histopathology and flickr8k, which are found under COURSE_DATA or "
        "downloaded there.",
    ),
]
Profile = Annotated[
    ProfileName | None,
    Option(
        help="smoke: minutes, to see that all works; laptop: two CPU cores, an hour; full: a GPU. "
        "Default: COURSE_PROFILE, else laptop."
    ),
]


def check_assignments(texts: list[str] | None) -> list[str] | None:
    """Gives them back. At once: else a value behind a blank is told of as an unknown file."""
    from common.course.lessons import parse_assignments

    parse_assignments(texts or [])
    return texts


Param = Annotated[
    list[str] | None,
    Option(
        metavar="NAME=VALUE",
        help="A parameter of the notebook's own; may be repeated.",
        callback=check_assignments,
    ),
]
Backend = Annotated[BackendName | None, Option(help="Default: KERAS_BACKEND, else tensorflow.")]
Output = Annotated[
    str | None,
    Option(
        metavar="DIR",
        help="Folder for results. Default: COURSE_OUTPUTS, else outputs.",
        parser=lambda path: os.path.abspath(expand(path, "--output")),
    ),
]
Run = Annotated[
    str | None,
    Option(
        metavar="RUN",
        help="A run's name or folder. Default: the course's weights.",
        parser=lambda run: check_run(run),
    ),
]


def parse_seeds(text: str) -> list[int]:
    """`"0,1,2"` as seeds.

    Raises:
        ConfigError: for what is no list of seeds.
    """
    from common.course import lessons

    texts = lessons.parse_grid([f"seeds={text}"])["seeds"]
    return [lessons.check_seed(lessons.parse_value(seed)) for seed in texts]
