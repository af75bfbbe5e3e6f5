"""No number that a lesson tells as found is another than its outputs show."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from prose import is_shown, shown_numbers, told_numbers

ROOT = Path(__file__).resolve().parents[2]
# The others are made anew from real data later, and join then.
LESSONS = sorted([*ROOT.glob("phase1_cifar/*.ipynb"), *ROOT.glob("phase2_*/0[14]*.ipynb")])


def unshown(notebook):
    shown = shown_numbers(notebook)
    return [
        f"{number}: {sentence}"
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for number, sentence in told_numbers(cell.source)
        if not is_shown(number, shown)
    ]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_told_numbers_are_shown(path):
    assert not unshown(nbformat.read(path, as_version=4))


def lesson(text, *outputs, source="print()"):
    cell = new_code_cell(source, outputs=list(outputs))
    return new_notebook(cells=[cell, new_markdown_cell(text)])


PRINTED = new_output("stream", text="accuracy 92.68% of 1,973,920, share 0.1234, change -2.5\n")
TABLE = new_output("display_data", {"text/html": "<td>0.5486</td>"})
FIGURE = new_output("display_data", {"image/png": ""}, metadata={"image/png": {"alt": "9.5 %"}})


@pytest.mark.parametrize(
    "text",
    [
        "It reaches 92.68 %, or 92.7 %, or 93 %.",
        "With 1,973,920 parameters, 12.3 % are wrong: 2.5 points less.",
        "The temperature is 0.55, and 10 % or 9.5 % is what the figure shows.",
        "He et al. report 8.75 %.",
        "[Guo](https://arxiv.org/abs/1) has 7.77 %.",
        "In 2015, 20 layers; see `0.77` and $x = 0.66$ and lesson 3.4.",
        "## Exercises\n\n1. Try 0.33.",
    ],
)
def test_what_is_shown_or_has_a_source_passes(text):
    assert not unshown(lesson(text, PRINTED, TABLE, FIGURE))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It reaches 92.61 %.", "92.61"),
        ("It reaches 91 %.", "91"),
        ("That is 8.9 points more.", "8.9"),
        ("A share of 0.13 is wrong.", "0.13"),
        ("It has 1,973,921 parameters.", "1,973,921"),
        ("Between 40 and 92.68 %.", "40"),
        ("- first 92.68 %\n- then 0.56", "0.56"),
    ],
)
def test_a_contradiction_is_found(text, number):
    [found] = unshown(lesson(text, PRINTED, TABLE, FIGURE))
    assert found.startswith(f"{number}: ")
