"""The commands that run notebooks: run, sweep, refresh."""

import os
from typing import Annotated

import typer
from typer import Argument, Option

from common.course.commands import options
from common.course.commands.terminal import end_with, given, say, settings
from common.errors import ConfigError
from common.files import check_output
from common.paths import outputs_dir


def run(
    phase: Annotated[
        str | None,
        Argument(metavar="[PHASE]", help="phase1_cifar, phase1 or 1. Default: all phases."),
    ] = None,
    lesson: Annotated[
        str | None, Option(metavar="LESSON", help="03_training, training or 03.")
    ] = None,
    dataset: options.Dataset = None,
    profile: options.Profile = None,
    seed: Annotated[int | None, Option(help="Seed of everything random. Default: 0.")] = None,
    param: options.Param = None,
    backend: options.Backend = None,
    output: options.Output = None,
    jobs: Annotated[
        int | None,
        Option(
            min=1,
            help="How many lessons run side by side. Default: 2 in profile smoke on two CPU cores "
            "or more and without a GPU, else 1.",
        ),
    ] = None,
) -> None:
    """Run lessons in order, each notebook in a kernel of its own.

    A lesson that fails names its cell and its error, and the rest still runs. Executed notebooks,
    their HTML and the run folders are left under outputs/; start with outputs/index.html.

    \b
    Examples:
      python -m common.course run --profile smoke --dataset synthetic
      python -m common.course run phase1
      python -m common.course run phase1 --lesson 03 --dataset folder:my_images --seed 1
      python -m common.course run phase1 --lesson 03 --param run_name=wide --backend jax

    \b
    Exit codes: 0 all ran, 1 a lesson failed, 2 a wrong option, name or parameter.
    """
    from common.course import lessons

    found = lessons.find_lessons(phase, lesson)
    shared = given(dataset=dataset, profile=profile and profile.value, seed=seed)
    extra = lessons.parse_assignments(param or [])
    with settings(backend, output, kernels=True):
        assigned = lessons.assign_parameters(found, shared, extra)
        check_output(outputs_dir() / "index.html")

        from common.course import overview, runner, tables
        from common.course.side_by_side import default_jobs, run_lessons

        chosen = profile or os.environ.get("COURSE_PROFILE") or "laptop"
        jobs = jobs or default_jobs(chosen)
        say(runner.expectation(assigned, chosen, jobs), err=True)
        results = run_lessons(assigned, jobs)
        say(tables.to_text(runner.summary(results)))
        for warning in dict.fromkeys(text for result in results for text in result.warnings):
            say(f"\n{warning}", err=True)
        say(f"\nOpen {overview.write_index()} in a browser: all lessons and runs.")
    failed = [result for result in results if not result.ok]
    end_with(f"\nFAILED: {result.phase}/{result.lesson}, {result.failure}" for result in failed)


def sweep(
    phase: options.Phase,
    more: Annotated[
        list[str] | None, Argument(metavar="[NAME=V1,V2...]...", help="More of the grid.")
    ] = None,
    grid: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=V1,V2...",
            help="A parameter of the lesson and its values; may be repeated.",
        ),
    ] = None,
    lesson: Annotated[
        str, Option(help="Another one that trains, as 06 of phase 3 by rewards.")
    ] = "training",
    param: options.Param = None,
    dataset: options.Dataset = None,
    profile: options.Profile = None,
    seeds: Annotated[
        str | None, Option(metavar="S1,S2...", help="Each combination, with each seed. Default: 0.")
    ] = None,
    name: Annotated[
        str | None, Option(help="Of the sweep's folder. Default: the phase and the grid.")
    ] = None,
    test: Annotated[
        bool, Option("--test", help="Show test metrics too: to report, never to choose by.")
    ] = False,
    backend: options.Backend = None,
    output: options.Output = None,
) -> None:
    """Train each combination of a grid; all results in one table.

    Each is a run of the phase's training lesson through papermill. Called again, finished
    combinations are kept, failed ones tried again, so an interrupted sweep goes on. The table is
    outputs/sweeps/NAME/table.csv, and .md and .html with the mean over the seeds. Seeds alone
    are a grid, too: how far one recipe scatters.

    \b
    Examples:
      python -m common.course sweep phase1 --grid stages=2,3,4 blocks=1,2,3
      python -m common.course sweep phase1 --grid stages=2,3 --grid blocks=1,2 --seeds 0,1,2
      python -m common.course sweep phase1 --seeds 0,1,2
      python -m common.course sweep phase1 --grid model=fast_small,resnet20 --dataset cifar10
      python -m common.course sweep phase2 --grid split=random,patients --test
      python -m common.course sweep phase3 --grid decoder=rnn,lstm dataset=synthetic,flickr8k
      python -m common.course sweep phase3 --lesson reward --grid reward=bleu_4,mix

    \b
    Exit codes: 0 all trained, 1 a combination failed, 2 a wrong option, name or parameter.
    """
    from common.course import lessons

    values = lessons.parse_grid([*(grid or []), *(more or [])])
    if not values and seeds is None:
        raise ConfigError(
            "There is no grid. Say which values to try, as in --grid stages=2,3,4, or which seeds, "
            "as in --seeds 0,1,2."
        )
    [chosen, *others] = lessons.find_lessons(phase, lesson)
    if others or "run_name" not in lessons.lesson_parameters(chosen):
        raise ConfigError(f"--lesson={lesson} must name one lesson that trains, with a run_name.")
    numbers = options.parse_seeds("0" if seeds is None else seeds)
    fixed = lessons.parse_assignments(param or [])
    fixed |= given(dataset=dataset, profile=profile and profile.value)
    lessons.check_grid(chosen, values, fixed)

    from common.course import overview, sweep, tables

    with settings(backend, output, kernels=True):
        name = name or sweep.default_name(chosen, values)
        table, folder = sweep.run_sweep(chosen, name, values, fixed, numbers, test)
        overview.write_index()
    say(tables.to_text(sweep.average(table, list(values), test)))
    say(f"\nSee {folder / 'table.html'}")
    if (table["state"] != "ok").any():
        raise typer.Exit(1)


def refresh(
    phase: Annotated[str | None, Argument(metavar="[PHASE]", help="Default: all phases.")] = None,
    lesson: Annotated[str | None, Option(metavar="LESSON", help="One lesson only.")] = None,
    profile: options.ProfileName = options.ProfileName.laptop,
    dataset: options.Dataset = None,
) -> None:
    """Run the lessons and their solutions, keep the outputs in the notebooks (for authors).

    Without --dataset, on COURSE_DATASET, else on a phase's real data; where they are not under
    COURSE_DATA on synthetic, and says so. Also brings the first cell, which is the same in all
    notebooks, up to date.
    """
    from common.course import lessons

    found = lessons.find_lessons(phase, lesson)
    solutions = [answers for item in found if (answers := item.solution)]
    with settings(kernels=True):
        lessons.assign_parameters(found, given(dataset=dataset), {})
        from common.course import refresh

        failed = [
            failure
            for part in (found, solutions)
            if part
            for failure in refresh.refresh(part, profile.value, dataset)
        ]
    if failed:
        raise typer.Exit(1)
