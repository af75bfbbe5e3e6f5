"""Lets `python -m common.course` run the command line.

`setup` and `test` need the standard library only. The other commands run in the environment `.venv`
where this Python lacks the course's packages.
"""

import os
import subprocess
import sys
from pathlib import Path


def _main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036
        return _fail(f"The course needs Python 3.11 or newer. This is {sys.version.split()[0]}.")
    from common.course import setup, testing

    if sys.argv[1:2] in (["setup"], ["test"]):
        command = {"setup": setup.main, "test": testing.main}[sys.argv[1]]
        return command(sys.argv[2:])
    try:
        from common.course.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "common").partition(".")[0] == "common":
            raise
        python = setup.venv_python()
        if python.exists() and Path(sys.prefix) != python.parents[1]:
            command = [str(python), "-m", "common.course", *sys.argv[1:]]
            if os.name == "posix":  # in this process: who ends it ends the command
                os.execv(python, command)
            try:
                return subprocess.call(command)
            except KeyboardInterrupt:  # told there
                return 130
        from common.course.environment import missing_package

        return _fail(missing_package(error))
    return app(prog_name="python -m common.course")


def _fail(message: object) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(_main())
