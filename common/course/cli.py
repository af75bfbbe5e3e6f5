"""The commands and their options; what they do stands in the modules they call.

Each command imports what it needs when it is called, so that `--help` is quick.
"""

import errno
import json
import os
import sys
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from common.course.environment import BACKENDS, PROFILES, check_environment, environment
from common.errors import ConfigError, CourseError, DataError
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

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
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
  python -m common.course predict phase2 --data my_slides --output table.parquet
  python -m common.course caption holidays/ --output captions.json

COMMAND --help says more about each.

{EXIT_CODES}""",
)

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
    assigned = lessons.assign_parameters(found, given, extra)

    from common.course import report, runner

    with _settings(backend, output, kernels=True):
        check_output(outputs_dir() / "index.html")
        results = runner.run_lessons(assigned)
        _say(report.to_text(runner.summary(results)))
        _say(f"\nSee {report.write_index()}")
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
        str, typer.Option("--seeds", metavar="S1,S2...", help="Each combination, with each seed.")
    ] = "0",
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
    outputs/sweeps/NAME/table.csv, and .md and .html with the mean over the seeds.

    \b
    Examples:
      python -m common.course sweep phase1 --grid stages=2,3,4 blocks=1,2,3
      python -m common.course sweep phase1 --grid stages=2,3 --grid blocks=1,2 --seeds 0,1,2
      python -m common.course sweep phase1 --grid model=fast_small,resnet20 --dataset cifar10
      python -m common.course sweep phase2 --grid split=random,patients --test
      python -m common.course sweep phase3 --grid decoder=rnn,lstm dataset=synthetic,flickr8k
      python -m common.course sweep phase3 --lesson reward --grid reward=bleu_4,mix

    \b
    Exit codes: 0 all trained, 1 a combination failed, 2 a wrong option, name or parameter.
    """
    from common.course import lessons

    values = lessons.parse_grid([*(grid or []), *(more or [])])
    if not values:
        raise ConfigError("There is no grid. Say which values to try, as in --grid stages=2,3,4.")
    [chosen, *others] = lessons.find_lessons(phase, lesson)
    if others or "run_name" not in lessons.lesson_parameters(chosen):
        raise ConfigError(f"--lesson={lesson} must name one lesson that trains, with a run_name.")
    numbers = [
        lessons.check_seed(lessons.parse_value(text))
        for text in lessons.parse_grid([f"seeds={seeds}"])["seeds"]
    ]
    fixed = lessons.parse_assignments(param or [])
    fixed |= _given(dataset=dataset, profile=profile and profile.value)

    from common.course import report, sweep

    with _settings(backend, output, kernels=True):
        name = name or sweep.default_name(chosen, values)
        table, folder = sweep.run_sweep(chosen, name, values, fixed, numbers, test)
        report.write_index()
    _say(report.to_text(sweep.average(table, list(values), test)))
    _say(f"\nSee {folder / 'table.html'}")
    if (table["state"] != "ok").any():
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="Where to look. Default: outputs/runs."),
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

    \b
    Examples:
      python -m common.course report --sort=-test_accuracy
      python -m common.course report --where dataset=cifar10 --mean --markdown
      python -m common.course report --mean --columns run,n,minutes,test_accuracy
      python -m common.course report --compare RUN RUN
    """
    from common.course import lessons, report

    given = lessons.parse_assignments(where or [])
    conditions = {name: lessons.parse_value(text) for name, text in given.items()}
    with _settings(output=output, keras=False):
        if compare:
            from common.course.compare import write_comparison

            tables, path = write_comparison(*compare)
            for title, table in tables.items():
                if len(table):
                    _say(f"{title}\n{report.to_text(table)}\n")
            _say(f"See {path}", err=True)
            return
        table, problems = report.read_runs(folders or [outputs_dir() / "runs"])
        for problem in problems:
            _say(problem, err=True)
        table = report.select(table, conditions, sort)
        if mean:
            table = report.average(table)
        if columns is not None:
            table = report.keep(table, columns)
        _say(report.to_markdown(table) if markdown else report.to_text(table))
        index = report.write_index(tell=False)
    _say(f"See {index}", err=True)


@app.command()
def evaluate(
    phase: Annotated[str, PHASE],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Images in DIR/test/<class>/."),
    ],
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="A run's name or folder. Default: the course's weights."
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
    """
    from common.course.evaluate import evaluate

    with _settings(backend):
        result = evaluate(phase, data, run, batch_size)
    _say(json.dumps(result))


@app.command()
def predict(
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="phase2_histopathology or phase2.")],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Patches in DIR/<patient>/<0|1>/*.png."),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="TABLE.parquet", help="The table to write.")
    ],
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="A run's name or folder. Default: the course's weights."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Patches at a time.")] = 500,
    backend: BackendOption = None,
) -> None:
    """Predict every patch of many slides into one Parquet table.

    Patches lie in DIR as in the IDC set: <patient>/<0|1>/<patient>_idx<n>_x<X>_y<Y>_class<0|1>.png.
    The table has the columns patient, x, y, label and probability (of class 1). Slides are read
    one after the other at constant memory; called again after a kill, patients that are done are
    kept. Then the scores against the folders' labels are told, or why one cannot be computed; the
    last line of the output is JSON with all of them.

    \b
    Examples:
      python -m common.course predict phase2 --data my_slides --output table.parquet
      python -m common.course predict phase2 --data my_slides --output table.parquet --run my_run
    """
    from common.course import predict
    from common.course.lessons import phase_name

    if phase_name(phase) != "phase2_histopathology":
        raise ConfigError(f"There is nothing to predict for {phase!r}. Choose phase2.")
    with _settings(backend):
        scores, missing = predict.predict(data, output, run, batch_size)
    _say(
        f"{display(output)}: {scores['n']:,} patches of {scores['patients']:,} patients; scores at "
        f"the run's threshold {scores['threshold']:.3f}:"
    )
    for name, reason in missing.items():
        _say(f"{name} cannot be computed: {reason}")
    _say(json.dumps(scores))


@app.command()
def caption(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO_OR_FOLDER...", help="Image files and folders.")
    ],
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam", help="Width of the beam, 1 to 50; 1: greedy. Default: the run's own."
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="A run's name or folder. Default: the course's weights."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="CAPTIONS.json", help="Write all captions there, too."),
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
    """Tell what photos show, a caption each.

    Any size. The file that --output names gets a JSON list of {"image": path as given,
    "caption": text}; called again after a kill, photos that are done are kept. Photos that cannot
    be read are told of at the end, and the others are still captioned. The backbone's weights
    come from COURSE_DATA/weights or are downloaded.

    \b
    Examples:
      python -m common.course caption photo.jpg holidays/
      python -m common.course caption holidays/ --beam 5 --output captions.json --attention figures

    \b
    Exit codes: 0 all captioned, 1 a photo could not be read, 2 a wrong option, run or path.
    """
    from common.course.caption import caption

    closed = False

    def tell(file: Path, text: str) -> None:
        nonlocal closed
        if not closed:
            try:
                _say(f"{display(file)}: {display(text)}")
            except BrokenPipeError:
                if output is None:
                    raise
                closed = True  # The file is still wanted.
                _mute()

    with _settings(backend):
        _, problems = caption(
            photos, run, beam, no_repeated_trigram, attention, tell, output, recursive
        )
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
    from common.course.evaluate import release

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
    from common.course import lessons, refresh

    with _settings(kernels=True):
        failed = refresh.refresh(lessons.find_lessons(phase, lesson), profile.value, dataset)
    if failed:
        raise typer.Exit(1)
