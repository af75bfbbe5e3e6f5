"""The command line: joins the commands, and tells of what went wrong in one message."""

import errno
import re
import sys
from contextlib import suppress
from typing import Annotated

import typer
from typer.core import TyperGroup

from common import __version__
from common.course.commands import images, lessons, runs
from common.course.commands.terminal import mute, say
from common.course.environment import missing_package
from common.errors import ConfigError, CourseError, DataError, did_you_mean
from common.files import os_advice

EXIT_CODES = """\
\b
Exit codes:
  0  all went well
  1  a lesson, a combination or a write failed; the rest was still done
  2  a wrong option, name or parameter, or data that cannot be used
  130  interrupted
"""


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
            say("Interrupted: run the same again, it goes on.", err=True)
            ctx.exit(130)
        except OSError as error:
            if error.errno == errno.EPIPE:  # as of `| head`
                mute()
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


def _fail(ctx, message: str, code: int) -> None:
    say(f"Error: {message}", err=True)
    ctx.exit(code)


_OUT_OF_MEMORY = ("ResourceExhaustedError", "XlaRuntimeError", "JaxRuntimeError")
_OUT_OF_MEMORY += ("OutOfMemoryError", "RuntimeError")


def _is_out_of_memory(error: Exception) -> bool:
    """Also in the words of TensorFlow, JAX and PyTorch."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ in _OUT_OF_MEMORY
        and bool(re.search("RESOURCE_EXHAUSTED|OOM|out of memory|can't allocate", str(error)))
    )


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
  python -m common.course run --profile smoke --dataset synthetic  all lessons, no download
  python -m common.course run phase1 --lesson 03
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
        say(f"Course {__version__}, Python {sys.version.split()[0]}")
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


commands = (lessons.run, lessons.sweep, runs.report, runs.evaluate, images.predict, images.caption)
for command in (*commands, runs.study, runs.release, lessons.refresh):
    app.command()(command)

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
