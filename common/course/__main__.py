"""Lets `python -m common.course` run the command line."""

from common.course.cli import app

app(prog_name="python -m common.course")
