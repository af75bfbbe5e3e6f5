"""The environment of a command's work; how it speaks and ends."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import typer

from common.course.environment import check_environment, environment
from common.paths import display


@contextmanager
def settings(
    backend: str | None = None, output: str | None = None, *, keras=True, kernels=False
) -> Iterator[None]:
    """The environment of a command and of the kernels it starts, checked before the work."""
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


def given(**parameters) -> dict:
    """Those that are not `None`."""
    return {name: value for name, value in parameters.items() if value is not None}


def say(text: object, err: bool = False) -> None:
    """Prints a text with nothing in it that a terminal would obey."""
    typer.echo(display(text, lines=True), err=err)


def mute() -> None:
    """Nobody reads what we print: nothing is printed any more, at the end of Python neither."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_with(problems: Iterable[str]) -> None:
    """Tells of each, and ends the command with exit code 1 if there is one."""
    problems = list(problems)
    for problem in problems:
        say(problem, err=True)
    if problems:
        raise typer.Exit(1)
