"""The commands about finished runs: report, evaluate, release."""

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from common.choices import STUDIES, check_study, resolve_dataset
from common.course.checks import check_batch_size, check_file_output, check_path, check_run
from common.course.commands import options
from common.course.commands.terminal import say, settings
from common.errors import ConfigError
from common.paths import outputs_dir

_STUDIES = "; ".join(f"{phase}: {', '.join(names)}" for phase, names in STUDIES.items())


def report(
    folders: Annotated[
        list[Path] | None,
        Argument(
            metavar="[FOLDER]...", help="Where to look. Default: outputs/runs.", parser=check_path
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        Option(
            metavar="COLUMN=VALUE",
            help="Only these; may be repeated.",
            callback=options.check_assignments,
        ),
    ] = None,
    sort: Annotated[str, Option(metavar="COLUMN", help="-COLUMN: largest first.")] = "created",
    columns: Annotated[
        str | None, Option(metavar="C1,C2...", help="Only these, in this order.")
    ] = None,
    mean: Annotated[
        bool, Option("--mean", help="One row per setting: mean and deviation over seeds.")
    ] = False,
    markdown: Annotated[
        bool, Option("--markdown", help="As a GitHub table, for a README.")
    ] = False,
    compare: Annotated[
        tuple[str, str] | None,
        Option(metavar="RUN RUN", help="These two side by side, with curves and captions."),
    ] = None,
    output: options.Output = None,
) -> None:
    """Print a table of all finished runs and write outputs/index.html.

    Shows what each phase is judged by; --columns shows other settings and metrics, --markdown all.

    \b
    Examples:
      python -m common.course report --sort=-test_accuracy
      python -m common.course report --where dataset=cifar10 --mean --markdown
      python -m common.course report --mean --columns run,n,minutes,test_accuracy
      python -m common.course report --compare RUN RUN
    """
    from common.course import lessons

    given = lessons.parse_assignments(where or [])
    conditions = {name: lessons.parse_value(text) for name, text in given.items()}
    with settings(output=output, keras=False):
        for run in compare or ():
            check_run(run)
        from common.course import overview, report, tables

        if compare:
            from common.course.compare import write_comparison

            compared, path = write_comparison(*compare)
            for title, table in compared.items():
                if len(table):
                    say(f"{title}\n{tables.to_text(table)}\n")
            say(f"See {path}", err=True)
            return
        table, problems = report.read_runs(folders or [outputs_dir() / "runs"])
        for problem in problems:
            say(problem, err=True)
        if table.empty:
            why = "No run can be read." if problems else report.NO_RUNS
            if conditions or columns is not None:
                raise ConfigError(why)
            say(why, err=True)
        table = report.select(table, conditions, sort)
        if mean:
            table = report.average(table)
        if columns is not None:
            table = report.keep(table, columns)
        if markdown:
            say(tables.to_markdown(table))
        else:
            say(tables.to_narrow_text(table) if columns is None else tables.to_text(table))
        index = overview.write_index(tell=False)
    say(f"See {index}", err=True)


def study(
    phase: options.Phase,
    name: Annotated[str, Argument(metavar="NAME", help=f"Of the comparison. {_STUDIES}.")],
    dataset: options.Dataset = None,
    arm: Annotated[
        list[str] | None,
        Option(metavar="ARM", help="Only this one, or this group; may be repeated."),
    ] = None,
    seeds: Annotated[
        str | None, Option(metavar="S1,S2...", help="Only these. Default: the study's.")
    ] = None,
    smoke: Annotated[
        bool, Option("--smoke", help="A little of everything, to see each arm work.")
    ] = False,
    backend: options.Backend = None,
    keep: Annotated[
        bool, Option("--keep", help="Keep the table beside the lessons, in the checkout.")
    ] = False,
    output: options.Output = None,
) -> None:
    """Train all arms of a comparison that a lesson shows, with each seed, in hours.

    Called again, it goes on with what is missing. Rows of arms and seeds that are not named stay
    in the table.

    \b
    Examples:
      python -m common.course study phase1 ablation --dataset cifar10
      python -m common.course study phase3 backbones --dataset flickr8k --seeds 0
      python -m common.course study phase3 ladder_own --arm rnn --arm lstm --smoke
    """
    from common.course import lessons

    phase = lessons.known_phase(phase)
    check_study(phase, name)
    dataset = resolve_dataset(phase, dataset)
    numbers = options.parse_seeds(seeds) if seeds is not None else []
    with settings(backend, output):
        from common.course import tables
        from common.course.study import table, train_study

        results, path = train_study(
            phase, name, dataset, keep, arms=arm or (), seeds=numbers, smoke=smoke
        )
        say(tables.to_text(table(results)))
        say(f"\nKept in {path}", err=True)


def evaluate(
    phase: options.Phase,
    data: Annotated[
        Path, Option(metavar="DIR", help="Images in DIR/test/<class>/.", parser=check_path)
    ],
    run: options.Run = None,
    figure: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="A PNG of 24 images drawn at random, with what the network says of them.",
            parser=check_file_output,
        ),
    ] = None,
    changes: Annotated[
        bool,
        Option("--changes", help="Also after JPEG, WebP, noise, shifts and in another light."),
    ] = False,
    batch_size: Annotated[int, Option(help="Images at a time.", callback=check_batch_size)] = 500,
    backend: options.Backend = None,
) -> None:
    """Score a trained network on images of your own.

    DIR/test must have a folder per class, named as the network's classes. The last line of the
    output is JSON with n, accuracy and accuracy_tta (with test-time augmentation). --changes also
    tells the accuracy of the same images after small changes, and by how much it differs, with a
    95 % interval.

    \b
    Examples:
      python -m common.course evaluate phase1 --data data/cifar10
      python -m common.course evaluate phase1 --data my_images --run my_run | tail -1
      python -m common.course evaluate phase1 --data data/cifar10 --figure answers.png
      python -m common.course evaluate phase1 --data data/cifar10 --changes
    """
    from common.course.evaluate import check, evaluate

    check(phase, data, run)
    with settings(backend):
        result = evaluate(data, run, batch_size, figure, changes)
    for name, found in result.get("changes", {}).items():
        gain, low, high = (100 * found[key] for key in ("gain", "low", "high"))
        told = f"{gain:+.1f} points ({low:+.1f} to {high:+.1f})"
        say(f"{name:20} {found['accuracy']:7.2%}  {told}")
    say(json.dumps(result))


def release(
    phase: options.Phase,
    run: Annotated[
        list[str],
        Option(metavar="RUN", help="A run's name or folder; repeat it for the mean of several."),
    ],
    backend: options.Backend = None,
) -> None:
    """Make runs the weights that the repository carries (for authors).

    Writes PHASE/weights: the weights in half precision, and the record with the test figures
    computed anew from that file. Of several runs of phase 1 or 2 the logits are averaged.

    \b
    Example:
      python -m common.course release phase1 --run cifar10-laptop-fast-seed0
      python -m common.course release phase1 --run seed0 --run seed1 --run seed2
      python -m common.course release phase2 --run fold1 --run fold2 --run fold3
      python -m common.course release phase3 --run scenes   (trains the scenes' backbone)
    """
    from common.course.release import check_release, release

    check_release(phase, run)
    with settings(backend):
        folder, record = release(phase, run)
    for name, value in record["metrics"].items():
        say(f"{name}: {value:.4f}")
    size = (folder / "model.weights.h5").stat().st_size / 2**20
    say(f"{folder}: {size:.1f} MB")
