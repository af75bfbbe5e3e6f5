"""The commands and their options; what they do stands in the modules they call.

Each command imports what it needs when it is called, so that `--help` is quick.
"""

import errno
import json
import os
import re
import sys
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from common import __version__
from common.course.checks import check_file_output, check_path, check_paths, check_run
from common.course.environment import (
    BACKENDS,
    PROFILES,
    check_environment,
    environment,
    missing_package,
)
from common.errors import ConfigError, CourseError, DataError, did_you_mean
from common.files import check_output, os_advice
from common.paths import display, expand, outputs_dir

EXIT_CODES = """\
\b
Exit codes:
  0  all went well
  1  a lesson, a combination or a write failed; the rest was still done
  2  a wrong option, name or parameter, or data that cannot be used
  130  interrupted
"""


Profile = StrEnum("Profile", PROFILES)
Backend = StrEnum("Backend", BACKENDS)


class _Group(TyperGroup):
    """Tells of what went wrong in one message instead of a stack trace."""

    def main(self, *args, **kwargs):
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a stand-in
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def parse_args(self, ctx, args):
        if args[:1] == ["help"]:  # as `help run`, for `run --help`
            args = [*args[1:2], "--help"]
        return super().parse_args(ctx, args)

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if " is not one of " in error.message:
                given, *choices = re.findall("'([^']*)'", error.message)
                error.message = error.message.removeprefix("Value error, ")
                error.message += did_you_mean(given, choices)
            raise
        except CourseError as error:
            _fail(ctx, str(error), 2 if isinstance(error, (ConfigError, DataError)) else 1)
        except KeyboardInterrupt:
            _say("Interrupted: run the same again, it goes on.", err=True)
            ctx.exit(130)
        except OSError as error:
            if error.errno == errno.EPIPE:  # as of `| head`
                _mute()
                ctx.exit(1)
            names = [str(name) for name in (error.filename, error.filename2) if name is not None]
            what = ": ".join([*names, error.strerror or str(error) or type(error).__name__])
            _fail(ctx, f"{what}. {os_advice(error)}", 1)
        except UnicodeError as error:
            _fail(ctx, f"A text cannot be read or written: {error}.", 1)
        except ModuleNotFoundError as error:
            if (error.name or "common").partition(".")[0] == "common":
                raise
            _fail(ctx, missing_package(error), 2)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            _fail(
                ctx,
                "There is not enough memory. Close other programs, or take less at a time: a "
                "smaller --batch-size, --beam or profile.",
                1,
            )


def _say(text: object, err: bool = False) -> None:
    typer.echo(display(text, lines=True), err=err)


def _fail(ctx, message: str, code: int) -> None:
    _say(f"Error: {message}", err=True)
    ctx.exit(code)


def _is_out_of_memory(error: Exception) -> bool:
    """Also in the words of TensorFlow and JAX."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ in ("ResourceExhaustedError", "XlaRuntimeError", "JaxRuntimeError")
        and ("RESOURCE_EXHAUSTED" in str(error) or "OOM" in str(error))
    )


def _mute() -> None:
    """Nobody reads what we print: nothing is printed any more, at the end of Python neither."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=f"""Run the course's lessons, sweep, report, evaluate, predict and caption.

\b
Examples:
  python -m common.course run                        every lesson on built-in data
  python -m common.course run phase1 --lesson 03 --dataset cifar10
  python -m common.course sweep phase1 --grid stages=2,3,4 blocks=1,2,3
  python -m common.course report --markdown
  python -m common.course evaluate phase1 --data my_images
  python -m common.course predict phase1 --data photos/ --run my_run --output labels.csv
  python -m common.course predict phase2 --data my_slides --output table.parquet
  python -m common.course caption holidays/ --output captions.json

COMMAND --help, or help COMMAND, says more about each.

{EXIT_CODES}""",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        _say(f"Course {__version__}, Python {sys.version.split()[0]}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    pass


DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="synthetic (the default); cifar10, or folder:DIR with DIR/train/<class>/ and "
        "DIR/test/<class>/, for phase 1; histopathology, or folder:DIR with DIR/<patient>/<0|1>/, "
        "for phase 2; flickr8k for phase 3.",
    ),
]
ProfileOption = Annotated[
    Profile | None,
    typer.Option(
        "--profile",
        help="smoke: seconds, to see that all works; laptop: two CPU cores, an hour; full: a GPU. "
        "Default: COURSE_PROFILE, else laptop.",
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="A parameter of the notebook's own; may be repeated.",
    ),
]
BackendOption = Annotated[
    Backend | None, typer.Option("--backend", help="Default: KERAS_BACKEND, else tensorflow.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="DIR", help="Folder for results. Default: COURSE_OUTPUTS, else outputs."
    ),
]


RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="A run's name or folder. Default: the course's weights.",
        callback=lambda run: check_run(run),
    ),
]
PHASE = typer.Argument(metavar="PHASE", help="phase1_cifar, phase1 or 1.")


@contextmanager
def _settings(
    backend: Backend | None = None, output: Path | None = None, *, keras=True, kernels=False
):
    """The environment of a command and of the kernels it starts, checked before the work."""
    if output is not None:
        output = os.path.abspath(expand(output, "--output"))
    # Figures go into files and notebooks, whatever the user's own programs draw on.
    drawn = "module://matplotlib_inline.backend_inline" if kernels else "agg"
    with environment(KERAS_BACKEND=backend, COURSE_OUTPUTS=output, MPLBACKEND=drawn):
        check_environment("COURSE_DATA", "COURSE_OUTPUTS")
        if keras:
            check_environment("KERAS_BACKEND")
        if kernels:
            check_environment("COURSE_PROFILE")
        elif keras:
            from common.course.quiet import load_backend

            load_backend()
        yield


def _given(**parameters) -> dict:
    return {name: value for name, value in parameters.items() if value is not None}


@app.command()
def run(
    phase: Annotated[
        str | None,
        typer.Argument(metavar="[PHASE]", help="phase1_cifar, phase1 or 1. Default: all phases."),
    ] = None,
    lesson: Annotated[
        str | None,
        typer.Option("--lesson", metavar="LESSON", help="03_training, training or 03."),
    ] = None,
    dataset: DatasetOption = None,
    profile: ProfileOption = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of everything random. Default: 0.")
    ] = None,
    param: ParamOption = None,
    backend: BackendOption = None,
    output: OutputOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
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
      python -m common.course run --profile smoke
      python -m common.course run phase1 --dataset cifar10
      python -m common.course run phase1 --lesson 03 --dataset folder:my_images --seed 1
      python -m common.course run phase1 --lesson 03 --param run_name=wide --backend jax

    \b
    Exit codes: 0 all ran, 1 a lesson failed, 2 a wrong option, name or parameter.
    """
    from common.course import lessons

    found = lessons.find_lessons(phase, lesson)
    given = _given(dataset=dataset, profile=profile and profile.value, seed=seed)
    extra = lessons.parse_assignments(param or [])
    with _settings(backend, output, kernels=True):
        assigned = lessons.assign_parameters(found, given, extra)
        check_output(outputs_dir() / "index.html")

        from common.course import overview, runner, tables
        from common.course.side_by_side import default_jobs, run_lessons

        chosen = profile or os.environ.get("COURSE_PROFILE") or "laptop"
        jobs = jobs or default_jobs(chosen)
        _say(runner.expectation(assigned, chosen, jobs), err=True)
        results = run_lessons(assigned, jobs)
        _say(tables.to_text(runner.summary(results)))
        for warning in dict.fromkeys(text for result in results for text in result.warnings):
            _say(f"\n{warning}", err=True)
        _say(f"\nOpen {overview.write_index()} in a browser: all lessons and runs.")
    failed = [result for result in results if not result.ok]
    for result in failed:
        _say(f"\nFAILED: {result.phase}/{result.lesson}, {result.failure}", err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def sweep(
    phase: Annotated[str, PHASE],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=V1,V2...]...", help="More of the grid."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="NAME=V1,V2...",
            help="A parameter of the lesson and its values; may be repeated.",
        ),
    ] = None,
    lesson: Annotated[
        str,
        typer.Option("--lesson", help="Another one that trains, as 06 of phase 3 by rewards."),
    ] = "training",
    param: ParamOption = None,
    dataset: DatasetOption = None,
    profile: ProfileOption = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", metavar="S1,S2...", help="Each combination, with each seed. Default: 0."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Of the sweep's folder. Default: the phase and the grid."),
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Show test metrics too: to report, never to choose by."),
    ] = False,
    backend: BackendOption = None,
    output: OutputOption = None,
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
    numbers = [
        lessons.check_seed(lessons.parse_value(text))
        for text in lessons.parse_grid([f"seeds={0 if seeds is None else seeds}"])["seeds"]
    ]
    fixed = lessons.parse_assignments(param or [])
    fixed |= _given(dataset=dataset, profile=profile and profile.value)
    lessons.check_grid(chosen, values, fixed)

    from common.course import overview, sweep, tables

    with _settings(backend, output, kernels=True):
        name = name or sweep.default_name(chosen, values)
        table, folder = sweep.run_sweep(chosen, name, values, fixed, numbers, test)
        overview.write_index()
    _say(tables.to_text(sweep.average(table, list(values), test)))
    _say(f"\nSee {folder / 'table.html'}")
    if (table["state"] != "ok").any():
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Where to look. Default: outputs/runs.",
            callback=check_paths,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Only these; may be repeated."),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="COLUMN", help="-COLUMN: largest first.")
    ] = "created",
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="C1,C2...", help="Only these, in this order.")
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="One row per setting: mean and deviation over seeds.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As a GitHub table, for a README.")
    ] = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare", metavar="RUN RUN", help="These two side by side, with curves and captions."
        ),
    ] = None,
    output: OutputOption = None,
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
    with _settings(output=output, keras=False):
        for run in compare or ():
            check_run(run)
        from common.course import overview, report, tables

        if compare:
            from common.course.compare import write_comparison

            compared, path = write_comparison(*compare)
            for title, table in compared.items():
                if len(table):
                    _say(f"{title}\n{tables.to_text(table)}\n")
            _say(f"See {path}", err=True)
            return
        table, problems = report.read_runs(folders or [outputs_dir() / "runs"])
        for problem in problems:
            _say(problem, err=True)
        if table.empty:
            why = "No run can be read." if problems else report.NO_RUNS
            if conditions or columns is not None:
                raise ConfigError(why)
            _say(why, err=True)
        table = report.select(table, conditions, sort)
        if mean:
            table = report.average(table)
        if columns is not None:
            table = report.keep(table, columns)
        if markdown:
            _say(tables.to_markdown(table))
        else:
            _say(tables.to_narrow_text(table) if columns is None else tables.to_text(table))
        index = overview.write_index(tell=False)
    _say(f"See {index}", err=True)


@app.command()
def evaluate(
    phase: Annotated[str, PHASE],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", help="Images in DIR/test/<class>/.", callback=check_path
        ),
    ],
    run: RunOption = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            metavar="FILE",
            help="A PNG of 24 images drawn at random, with what the network says of them.",
            callback=check_file_output,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time.")] = 500,
    backend: BackendOption = None,
) -> None:
    """Score a trained network on images of your own.

    DIR/test must have a folder per class, named as the network's classes. The last line of the
    output is JSON with n, accuracy and accuracy_tta (with test-time augmentation).

    \b
    Examples:
      python -m common.course evaluate phase1 --data data/cifar10
      python -m common.course evaluate phase1 --data my_images --run my_run | tail -1
      python -m common.course evaluate phase1 --data data/cifar10 --figure answers.png
    """
    from common.course.evaluate import check, evaluate

    check(phase, data, run, batch_size)
    with _settings(backend):
        result = evaluate(data, run, batch_size, figure)
    _say(json.dumps(result))


@app.command()
def predict(
    phase: Annotated[
        str, typer.Argument(metavar="PHASE", help="phase1: images; phase2: patches of slides.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="PATH",
            help="phase1: an image or a folder of images; may be repeated. phase2: a folder of "
            "patches in <patient>/<0|1>/, or not labelled: in <patient>/, or right in it.",
            callback=check_paths,
        ),
    ],
    more: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="More images, as of --data *.jpg.",
            callback=check_paths,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="TABLE",
            help="The table to write: phase1 .csv or .parquet (without, the labels are printed); "
            "phase2 .parquet.",
            callback=check_file_output,
        ),
    ] = None,
    run: RunOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="phase1: folders within folders, too.")
    ] = False,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="DIR",
            help="phase2: draw each patient's slide into DIR, the probability at each patch's "
            "place, if file names tell it as in ..._x51_y1251....png.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images or patches at a time.")
    ] = 500,
    backend: BackendOption = None,
) -> None:
    """Predict images or slides that nobody has labelled, into one table.

    phase1: any images. The table has the columns path, label, probability (of that label) and one
    per class. Probabilities are calibrated by the temperature that the run's record holds, fitted
    on validation images at the end of the training; if it holds none, as the course's own weights
    now, this is said: label and order are right then, the numbers too low or too high. A network
    only knows its classes, and calls everything one of them. Images that cannot be read are told
    of at the end.

    phase2: patches of 50x50 pixels. The table has the columns patient, x, y, probability (of
    malignant), and label where they lie in folders 0 and 1, else file. Of labelled patches the
    scores against the labels are told, or why one cannot be computed; the last line of the output
    is JSON with all of them.

    All are read at constant memory; called again after a kill, what is done is kept.

    \b
    Examples:
      python -m common.course predict phase1 --data photo.jpg
      python -m common.course predict phase1 --data holidays/ --run my_run --output labels.csv
      python -m common.course predict phase2 --data my_slides --output table.parquet --maps maps

    \b
    Exit codes: 0 all predicted, 1 an image could not be read or a slide not drawn, 2 a wrong
    option, run or path, or patches that cannot be read.
    """
    from common.course.lessons import phase_name

    whole_name, data = phase_name(phase), [*data, *(more or [])]
    if whole_name not in ("phase1_cifar", "phase2_histopathology"):
        raise ConfigError(
            f"There is nothing to predict for {phase!r}. Choose phase1 or phase2; `caption` tells "
            "what photos show."
        )
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {batch_size}")
    check_run(run, whole_name)
    if whole_name == "phase1_cifar":
        if maps is not None:
            raise ConfigError("--maps draws slides, of phase2 alone. Leave it out.")
        problems = _predict_images(data, output, run, recursive, batch_size, backend)
    else:
        if len(data) > 1 or recursive:
            what = "--recursive is" if recursive else "several --data are"
            raise ConfigError(f"{what} for phase1. Name the one folder of all patients.")
        problems = _predict_slides(data[0], output, run, maps, batch_size, backend)
    for problem in problems:
        _say(problem, err=True)
    if problems:
        raise typer.Exit(1)


def _predict_images(data, output, run, recursive, batch_size, backend) -> list[str]:
    from common.course import predict_images

    files = predict_images.check(data, output, recursive)
    with _settings(backend):
        found = predict_images.predict_images(
            files,
            output,
            run,
            batch_size,
            lambda file, label, p: _say(f"{display(file)}: {display(label)} {p:.1%}"),
        )
    if output is not None:
        n = sum(found.counts.values())
        labels = ", ".join(f"{label} {k:,}" for label, k in list(found.counts.items())[:10])
        more = f" and {len(found.counts) - 10} labels more" if len(found.counts) > 10 else ""
        _say(f"{display(output)}: {n:,} image{'' if n == 1 else 's'}: {labels or 'none'}{more}")
    if found.temperature is None:
        _say(
            f"The probabilities are not calibrated: the record of {found.run_name} holds no "
            "temperature. Lesson 3 of phase 1 fits one where it has validation images.",
            err=True,
        )
    return [f"Left out: {problem}" for problem in found.problems]


def _predict_slides(data, output, run, maps, batch_size, backend) -> list[str]:
    from common.course import predict

    maps = None if maps is None else expand(maps, "--maps")
    patches = predict.check(data, output, maps)
    with _settings(backend):
        scores, missing, problems = predict.predict(patches, output, run, batch_size, maps)
    told = "scores at" if predict.is_labelled(patches) else "without labels; called at"
    patients = f"{scores['patients']:,} patient{'' if scores['patients'] == 1 else 's'}"
    _say(
        f"{display(output)}: {scores['n']:,} patches of {patients}; {told} the threshold of "
        f"{run or 'the weights of the course'}, {scores['threshold']:.3f}:"
    )
    if maps is not None:
        _say(f"Maps are in {display(maps)}.")
    for name, reason in missing.items():
        _say(f"{name} cannot be computed: {reason}")
    _say(json.dumps(scores))
    return problems


@app.command()
def caption(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO_OR_FOLDER...", help="Image files and folders.", callback=check_paths
        ),
    ],
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam", help="Width of the beam, 1 to 50; 1: greedy. Default: the run's own."
        ),
    ] = None,
    run: RunOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="CAPTIONS.json",
            help="Write all captions there, too.",
            callback=check_file_output,
        ),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option("--attention", metavar="DIR", help="Draw where each word looked, into DIR."),
    ] = None,
    no_repeated_trigram: Annotated[
        bool,
        typer.Option("--no-repeated-trigram", help="Never the same three words twice."),
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Folders within folders, too.")
    ] = False,
    backend: BackendOption = None,
) -> None:
    """Tell what photos show, a caption each, and how sure it is.

    The course's captioner has learned from 6,000 of the 8,000 photos of Flickr8k, mostly of people
    and dogs, and tells everything in their words: a cat becomes a dog, a cup whatever fits.
    Behind each caption stands its score, the mean log-probability of its words (0 is the highest):
    "sure" from the score on at which captions of 500 other such photos were as good as the average
    (CIDEr-D 72 of the sure ones, 29 of the others), else "unsure". Of photos of other things a
    sure caption may be wrong, too. A run that has no such threshold shows the score alone.

    Any size. The file that --output names gets a JSON list of {"image": path as given,
    "caption": text, "score": number, "confidence": "sure", "unsure" or null}; called again after
    a kill, photos that are done are kept. Photos that cannot be read are told of at the end, and
    the others are still captioned. The backbone's weights come from COURSE_DATA/weights or are
    downloaded.

    \b
    Examples:
      python -m common.course caption photo.jpg holidays/
      python -m common.course caption holidays/ --beam 5 --output captions.json --attention figures

    \b
    Exit codes: 0 all captioned, 1 a photo could not be read, 2 a wrong option, run or path.
    """
    from common.course.caption import Photo, caption, check

    check_run(run, "phase3_captioning")
    attention = None if attention is None else expand(attention, "--attention")
    listed = check(photos, beam, attention, output, recursive)
    closed = False

    def tell(photo: Photo) -> None:
        nonlocal closed
        if not closed:
            sure = f"{photo.confidence}, " if photo.confidence else ""
            try:
                _say(f"{display(photo.file)}: {display(photo.caption)} ({sure}{photo.score:.2f})")
            except BrokenPipeError:
                if output is None:
                    raise
                closed = True  # The file is still wanted.
                _mute()

    with _settings(backend):
        problems = caption(listed, run, beam, no_repeated_trigram, tell, output)
    for problem in problems:
        _say(f"Left out: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def release(
    phase: Annotated[str, PHASE],
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="A run's name or folder.")],
    backend: BackendOption = None,
) -> None:
    """Make a run's weights those that the repository carries (for authors).

    Writes PHASE/weights: the weights in half precision, and the record with the test figures
    computed anew from that file.

    \b
    Example:
      python -m common.course release phase1 --run cifar10-laptop-fast-seed0
      python -m common.course release phase2 --run histopathology-laptop-fast_small-leave-one-out
      python -m common.course release phase3 --run scenes   (trains the scenes' backbone)
    """
    from common.course.evaluate import check_release, release

    check_release(phase, run)
    with _settings(backend):
        folder, record = release(phase, run)
    for name, value in record["metrics"].items():
        _say(f"{name}: {value:.4f}")
    size = (folder / "model.weights.h5").stat().st_size / 2**20
    _say(f"{folder}: {size:.1f} MB")


@app.command()
def refresh(
    phase: Annotated[
        str | None, typer.Argument(metavar="[PHASE]", help="Default: all phases.")
    ] = None,
    lesson: Annotated[
        str | None, typer.Option("--lesson", metavar="LESSON", help="One lesson only.")
    ] = None,
    profile: Annotated[Profile, typer.Option("--profile")] = Profile.laptop,
    dataset: DatasetOption = None,
) -> None:
    """Run the lessons and keep their outputs in the notebooks (for authors).

    Uses a phase's real data where it is unpacked under COURSE_DATA. Also brings the first cell,
    which is the same in all notebooks, up to date.
    """
    from common.course import lessons

    found = lessons.find_lessons(phase, lesson)
    with _settings(kernels=True):
        lessons.assign_parameters(found, _given(dataset=dataset), {})
        from common.course import refresh

        failed = refresh.refresh(found, profile.value, dataset)
    if failed:
        raise typer.Exit(1)


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON)
def setup(ctx: typer.Context) -> None:
    """Make the environment .venv and install the course in it, or repair it.

    \b
    Example:
      python -m common.course setup --extras jupyter
    """
    from common.course.setup import main

    raise typer.Exit(main(ctx.args))


@app.command(context_settings=_PASSED_ON)
def test(ctx: typer.Context) -> None:
    """Run all tests in the environment .venv, or some steps of them (for authors).

    \b
    Examples:
      python -m common.course test
      python -m common.course test lint nbval
    """
    from common.course.testing import main

    raise typer.Exit(main(ctx.args))
