"""Numbers that a lesson's text tells, and numbers that its outputs show."""

import re

from bs4 import BeautifulSoup

# 12 %, 92.68 %, 0.55, 1,973,920, 8.9 points: what is measured. (Years and counts are not.)
_TOLD = re.compile(
    r"(?<![\w.,/-])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+(?=\s?%|\s(?:to|and|or)\s\d+(?:\.\d+)?\s?%"
    r"|\spoints?\b))(?![\w/])"
)
_SHOWN = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def told_numbers(markdown: str) -> list[tuple[str, str]]:
    """Measured numbers in a text, each with its sentence.

    Left out are exercises, code, formulas, and sentences with a link or a year in parentheses:
    their numbers have a source.
    """
    markdown = re.split(r"^## Exercises", markdown, flags=re.MULTILINE)[0]
    text = re.sub(r"```.*?```|~~~.*?~~~", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$\n]*\$|`[^`\n]*`|\b[Ll]essons? \d\.\d", " ", text)
    found = []
    for sentence in re.split(r"(?<=[.:;!?])\s+(?=[A-Z*(\[|])|\n\s*\n|\n(?=[-|*\d])", text):
        if not re.search(r"\]\(https?:|<https?:|et al\.|\b(?:19|20)\d\d\)", sentence):
            found += [(number, " ".join(sentence.split())) for number in _TOLD.findall(sentence)]
    return found


def shown_numbers(notebook) -> list[float]:
    """All numbers in the outputs, in the texts of figures, and in the code."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source)
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            data = output.get("data", {})
            texts += [data.get("text/plain", ""), data.get("text/markdown", "")]
            texts.append(BeautifulSoup(data.get("text/html", ""), "html.parser").get_text(" "))
            texts += [
                about.get("alt", "") for about in output.get("metadata", {}).values() if about
            ]
    found = _SHOWN.findall("\n".join(texts))
    return [float(number.replace(",", "")) for number in found if number.strip(",+-")]


def is_shown(number: str, shown: list[float]) -> bool:
    """Whether a told number is one that is shown, rounded, or a share that is shown in per cent."""
    value = float(number.replace(",", ""))
    digits = len(number.partition(".")[2])
    half = 0.5000001 * 10**-digits
    sizes = [abs(x) for x in shown]
    return any(abs(x - value) <= half for x in sizes + [100 * x for x in sizes if x <= 1])
