"""An executed lesson as one HTML file that asks nobody for anything: it is read offline."""

import contextlib
import os
import re
import urllib.parse
from pathlib import Path
from xml.etree import ElementTree

import nbformat
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from common.course import pages
from common.errors import DataError
from common.files import write_text
from common.paths import outputs_dir

STYLE = pages.beside("lesson.css")
# What a browser is to refuse, should a page hold it all the same.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "img-src data:; media-src data:; font-src data:; style-src 'unsafe-inline'\">"
)
# Of an output's forms the first that there is: none that needs a script of others.
FORMS = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]


def write_html(notebook: Path) -> Path:
    """Writes an executed notebook as one HTML file beside it.

    Formulas become MathML and pictures lie within; remote ones, scripts and frames do not come
    along: a link is left of them.

    Raises:
        DataError: if it is no notebook.
    """
    try:
        lesson = nbformat.read(notebook, as_version=4)
    except Exception as error:  # whatever nbformat makes of other files
        raise DataError(f"{notebook} is no readable notebook: {str(error)[:300]}") from error
    _prepare(lesson)
    # What it was made from lies beside what its text links to.
    made_from = Path(lesson.metadata.get("papermill", {}).get("input_path") or notebook).parent
    body, _ = _exporter().from_notebook_node(lesson, {"metadata": {"path": str(made_from)}})
    soup = BeautifulSoup(body, "html.parser")
    _keep_what_is_here(soup)
    _lead_on(soup, notebook.parent, made_from)
    title = _take_title(soup) or notebook.stem
    # Beside others under `outputs/`, as `run` leaves it.
    above = notebook.resolve().parents[2:3]
    page = pages.page(
        title,
        str(soup),
        index="../../index.html" if above == (outputs_dir().resolve(),) else None,
        style=STYLE + _highlighting(),
        meta=POLICY,
    )
    target = notebook.with_suffix(".html")
    write_text(target, page)
    return target


def _exporter() -> HTMLExporter:
    options = {
        "template_name": "basic",  # the cells alone
        "embed_images": True,
        "exclude_input_prompt": True,
        "exclude_output_prompt": True,
    }
    base = {"display_data_priority": FORMS}
    return _Exporter(config=Config({"HTMLExporter": options, "NbConvertBase": base}))


class _Exporter(HTMLExporter):
    """Writes Markdown with `_Renderer`."""

    def markdown2html(self, context, source):
        renderer = _Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
        )
        return MarkdownWithMath(renderer=renderer).render(source)

    markdown2html.jinja_pass_arg = HTMLExporter.markdown2html.jinja_pass_arg


class _Renderer(IPythonRenderer):
    """Formulas as MathML."""

    def block_math(self, body: str) -> str:
        return to_mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return to_mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)


def to_mathml(formula: str, block: bool = False) -> str:
    """A LaTeX formula as MathML; one that cannot be read stays as it is written."""
    # Of the environments for several lines only those of a paragraph are known to the converter.
    known = re.sub(r"\\(begin|end)\{(aligned|alignedat|split)\}", r"\\\1{align*}", formula)
    known = re.sub(r"\\(begin|end)\{gathered\}", r"\\\1{gather*}", known)
    try:
        mathml = convert(known, display="block" if block else "inline")
        ElementTree.fromstring(mathml)
        return mathml
    except Exception:  # whatever the converter makes of other signs
        return f"<code>{pages.escape(formula)}</code>"


def _prepare(lesson: nbformat.NotebookNode) -> None:
    """Outputs as they were last seen, and a word for each figure without one."""
    section, figures = "", 0
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            headings = re.findall(pages.HEADING, cell.source, re.MULTILINE)
            section = headings[-1] if headings else section
        elif cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = settle(output.text)
            for form in ("image/png", "image/jpeg"):
                if form in output.get("data", {}):
                    figures += 1
                    about = output.metadata.setdefault(form, {})
                    about.setdefault("alt", f"Figure {figures}, section {section!r}")


def merged(outputs: list) -> list:
    """Pieces of a stream that follow each other as one."""
    merged = []
    for output in outputs:
        name = output.get("name")
        if output.output_type == "stream" and merged and merged[-1].get("name") == name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def settle(text: str) -> str:
    """A stream as a terminal would show it in the end: of a progress bar its last state alone.

    Carriage returns begin a line anew, `ESC[A` goes up one: bars always write whole lines.
    """
    lines, row, anew = [""], 0, False
    for part in re.split(r"(\r|\n|\x1b\[\d*[A-Ka-fh-ln-z]|\x08)", text):
        if part == "\n":
            row, anew = row + 1, False
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            anew = True
        elif part == "\x08":
            lines[row] = lines[row][:-1]
        elif part.startswith("\x1b[") and part.endswith("A"):
            row, anew = max(0, row - int(part[2:-1] or 1)), True
        elif part and not re.fullmatch(r"\x1b\[\d*[B-Ka-fh-ln-z]", part):
            lines[row] = part if anew else lines[row] + part
            anew = False
    return "\n".join(line.rstrip(" ") for line in lines)


# What would ask for a file, run, or show another page.
_FOREIGN = ["script", "link", "base", "meta", "iframe", "frame", "object", "embed", "applet"]
_ASKING = ("src", "srcset", "poster", "data", "background", "href", "xlink:href")


def _keep_what_is_here(soup: BeautifulSoup) -> None:
    """Takes out what is not in the page itself; of a remote thing a link is left."""
    for tag in soup.find_all(_FOREIGN):
        _leave_a_link(soup, tag, tag.get("src") or tag.get("data"))
    for tag in soup.find_all(True):
        for name in _ASKING:
            address = str(tag.get(name) or "").strip()
            if address.startswith("data:") or not address or (name == "href" and tag.name == "a"):
                continue
            if name.endswith("href") and address.startswith("#"):
                continue
            if tag.name in ("img", "video", "audio"):
                _leave_a_link(soup, tag, address)
                break
            del tag[name]
        if tag.get("style"):
            tag["style"] = _without_requests(tag["style"])
    for tag in soup.find_all("style"):
        tag.string = _without_requests(tag.string or "")


def _without_requests(css: str) -> str:
    css = re.sub(r"@import[^;]*(;|$)", "", css)
    return re.sub(r"url\(\s*(?![\"']?(data:|#))[^)]*\)", "none", css)


def _leave_a_link(soup: BeautifulSoup, tag: Tag, address: str | None) -> None:
    text = tag.get("alt") or tag.get("title") or address
    if tag.name in ("script", "link", "base", "meta") or not address:
        tag.decompose()
    elif tag.find_parent("a"):  # such as a badge
        tag.replace_with(text)
    else:
        left = soup.new_tag("a", href=address)
        left.string = text
        tag.replace_with(left)


def _lead_on(soup: BeautifulSoup, here: Path, made_from: Path) -> None:
    """Links to other lessons lead to their pages where there are any; to files, to where they are.

    Args:
        soup: The page.
        here: Its folder.
        made_from: The folder of the notebook that was run.
    """
    for tag in soup.select("a[href]"):
        path, mark, rest = tag["href"].partition("#")
        if not path or re.match(r"[a-zA-Z][\w+.-]*:|/", path):
            continue
        path = urllib.parse.unquote(path)
        page = re.sub(r"\.ipynb$", ".html", path)
        if os.path.exists(here / page):
            tag["href"] = pages.quote(page) + mark + rest
        elif not os.path.exists(here / path) and os.path.exists(made_from / path):
            with contextlib.suppress(ValueError):  # on another drive
                found = Path(os.path.relpath(made_from / path, here)).as_posix()
                tag["href"] = pages.quote(found) + mark + rest


def _take_title(soup: BeautifulSoup) -> str:
    """The text of the first heading, which goes to the top of the page."""
    heading = soup.find(["h1", "h2", "h3"])
    if heading is None:
        return ""
    for anchor in heading.select(".anchor-link"):
        anchor.decompose()
    title = " ".join(heading.get_text().split())
    if heading.name == "h1":
        heading.decompose()
    return title


def _highlighting() -> str:
    """Colours of code, by day and by night."""
    light, dark = (
        HtmlFormatter(style=name, nobackground=True).get_style_defs(".highlight")
        for name in ("default", "github-dark")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
