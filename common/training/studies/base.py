"""What a comparison of many trainings is, how its table is made and kept.

A study has arms and seeds. All of it takes hours and is done by one command,
`python -m common.course study PHASE NAME`; what came out is kept beside the lessons, in
`results/NAME.json`, with the hardware. Everything is judged on validation images.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd

from common.errors import DataError, unknown
from common.files import read_json
from common.paths import beside_lessons
from common.training.backend import hardware
from common.training.runs import versions


@dataclass(frozen=True)
class Study:
    """Arms, each trained with each seed on the same data.

    Attributes:
        name: Of its file in `results/`.
        phase: The phase's folder.
        question: What it asks.
        arms: What is compared, by name.
        seeds: Of everything random.
    """

    name: str
    phase: str
    question: str
    arms: dict[str, Any]
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def command(self) -> str:
        """What makes its table."""
        return f"python -m common.course study {self.phase.partition('_')[0]} {self.name}"

    @property
    def trainings(self) -> int:
        """How many there are in all."""
        return sum(1 for _ in self.order([]))

    def arm(self, name: str):
        """One of `arms`.

        Raises:
            ConfigError: if there is no such arm.
        """
        if name not in self.arms:
            raise unknown(f"The study {self.name} has no arm {name!r}.", name, self.arms)
        return self.arms[name]

    def only(self, arms: Iterable[str] = (), seeds: Iterable[int] = ()) -> Self:
        """The same of these arms and seeds alone; of all where none is named.

        Raises:
            ConfigError: if there is no such arm.
        """
        arms = {name: self.arm(name) for name in arms}
        seeds = tuple(dict.fromkeys(seeds))
        return replace(self, arms=arms or self.arms, seeds=seeds or self.seeds)

    def order(self, rows: list[dict]) -> Iterator[tuple[str, int]]:
        """Arm and seed of each training, seed by seed; `rows` are those of the ones before."""
        for seed in self.seeds:
            for arm in self.arms:
                yield arm, seed

    def table(
        self, about: dict, train: Callable[[str, int], dict], before: dict | None = None
    ) -> Iterator[dict]:
        """What is to be kept, after each training.

        Args:
            about: What the whole table is of, plain JSON values: `dataset`, `data` and more.
            train: An arm with a seed, to its row.
            before: What was kept by an earlier call. Of the same data its rows stay, until one of
                the same arm and seed takes their place.
        """
        same = before is not None and all(before.get(key) == about[key] for key in about)
        kept = {(row["arm"], row["seed"]): row for row in before["rows"]} if same else {}
        told = {
            "study": self.name,
            "question": self.question,
            "command": self.command,
            **about,
            "hardware": hardware(),
            "versions": versions(),
        }
        new: list[dict] = []
        for arm, seed in self.order(new):
            new.append(train(arm, seed))
            kept[arm, seed] = new[-1]
            rows = sorted(kept.values(), key=lambda row: row["seed"])
            yield {**told, "seeds": list(dict.fromkeys(row["seed"] for row in rows)), "rows": rows}


def results_file(phase: str, name: str) -> Path | None:
    """Where the results of a study are kept; `None` where the course came without them."""
    folder = beside_lessons(phase, "results")
    return folder and folder / f"{name}.json"


def read_results(phase: str, name: str) -> tuple[pd.DataFrame, dict]:
    """The kept results of a study.

    Returns:
        A row per training (`arm`, `seed`, `epochs`, `parameters`, `seconds`, `history`, and what
        the arms are judged by), and the rest of the file: `question`, `command`, `dataset`,
        `data`, `hardware`.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = results_file(phase, name)
    made = f"Make it, in hours: python -m common.course study {phase.partition('_')[0]} {name}"
    if path is None or not path.is_file():
        raise DataError(f"There are no results of the study {name} in {path}. {made}")
    results = read_rows(path)
    return pd.DataFrame(results["rows"]), {k: v for k, v in results.items() if k != "rows"}


def read_rows(path: Path) -> dict:
    """The results in a file, with `rows`.

    Raises:
        DataError: if it is damaged.
    """
    results = read_json(path, dict)
    rows = results.get("rows")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"arm", "seed", "history"} <= row.keys() for row in rows
    ):
        raise DataError(f"{path} is damaged. Restore it (git checkout -- {path}), or delete it.")
    return results
