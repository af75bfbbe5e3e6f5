"""Executed lessons as HTML: read offline, in any browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from common.course.html import settle, to_mathml, write_html
from common.errors import DataError

ROOT = Path(__file__).parents[2]
LESSONS = sorted(ROOT.glob("phase*_*/[0-9]*.ipynb"))
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://x.y/a)"
)


class Requests(HTMLParser):
    """What a browser would ask others for, and the links that a reader may follow."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.links, self.tags, self.images = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            if tag == "a" and name == "href":
                self.links.append(value)
            elif name in ("src", "srcset", "href", "poster", "data", "background", "xlink:href"):
                self.asked.append(value)
            elif name == "style":
                self.asked += re.findall(r"url\(([^)]*)|@import", value)
        self.asked = [a for a in self.asked if not (a or "").startswith(("data:", "#"))]

    def handle_data(self, data):
        self.asked += re.findall(r"url\((?!data:)[^)]*\)|@import", data)


def convert(folder, *cells):
    notebook = new_notebook(cells=list(cells))
    nbformat.write(notebook, folder / "a.ipynb")
    return write_html(folder / "a.ipynb").read_text(encoding="utf-8")


def code(*outputs):
    return new_code_cell("x", outputs=list(outputs))


def shown(**data):
    return new_output("display_data", {name.replace("_", "/"): v for name, v in data.items()})


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_lesson_asks_nobody_for_anything(lesson, tmp_path):
    notebook = tmp_path / lesson.name
    notebook.write_bytes(lesson.read_bytes())
    text = write_html(notebook).read_text(encoding="utf-8")
    page = Requests(text)
    assert not page.asked and not page.tags & {"script", "link", "iframe"}
    heading = nbformat.read(lesson, 4).cells[0].source.splitlines()[0].removeprefix("# ")
    assert f"<title>{heading}</title>" in text and text.count("<h1") == 1
    assert any("colab" in link for link in page.links) and ">Open in Colab</a>" in text
    assert not re.search(r"<code>[^<]*\\(frac|sum|mathbb|hat|bar|text)\b", text)
    for formula in re.findall("<math.*?</math>", text, re.DOTALL):
        assert "\\" not in "".join(ElementTree.fromstring(formula).itertext())


def test_nothing_remote_comes_along(tmp_path):
    html = (
        '<script src="https://a.b/c.js"></script><link rel="stylesheet" href="//a.b/c.css">'
        '<img src="http://a.b/i.png" alt="pic"><img srcset="http://a.b/j.png 2x">'
        '<iframe src="https://a.b/frame"></iframe><video poster="http://a.b/p.png"></video>'
        '<style>@import "http://a.b/k.css"; p { background: url(http://a.b/l.png) }</style>'
        '<p style="background: url(\'//a.b/m.png\')" onclick="go()">kept</p>'
        '<svg><image xlink:href="http://a.b/n.png"/><use href="#here"/></svg><base href="http://a.b">'
    )
    remote = new_markdown_cell(f"# T\n\n{BADGE} ![photo](https://a.b/o.jpg)\n\n{html}")
    text = convert(tmp_path, remote, code(shown(text_html=html)))
    page = Requests(text)
    assert not page.asked and "kept" in text
    assert {"https://x.y/a", "https://a.b/o.jpg", "http://a.b/i.png"} <= {*page.links}
    assert ">Open in Colab</a>" in text and ">photo</a>" in text
    assert "default-src 'none'" in text


def test_pictures_lie_within(tmp_path):
    (tmp_path / "near.png").write_bytes(b"png")
    attached = new_markdown_cell("![a](attachment:a.png) ![n](near.png)")
    attached["attachments"] = {"a.png": {"image/png": PNG}}
    figure = new_output("display_data", {"image/png": PNG, "text/plain": "<Figure>"})
    figure.metadata = {"image/png": {"width": 320, "height": 200}}
    text = convert(tmp_path, new_markdown_cell("## Curves"), attached, code(figure))
    page = Requests(text)
    assert not page.asked and [image["src"][:14] for image in page.images] == ["data:image/png"] * 3
    assert page.images[2]["width"] == "320"  # of twice as many pixels: sharp on any screen
    assert page.images[2]["alt"] == "Figure 1, section 'Curves'" and "&lt;Figure" not in text


def test_what_needs_a_script_is_shown_as_text(tmp_path):
    widget = new_output(
        "display_data",
        {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "100 %|###|"},
    )
    script = new_output("display_data", {"application/javascript": "go()", "text/plain": "a plot"})
    text = convert(tmp_path, code(widget, script))
    assert "100 %|###|" in text and "a plot" in text and "go()" not in text


@pytest.mark.parametrize(
    ("cells", "title"),
    [
        (["Text\n\n## A *title* with $x^2$ & `code`"], "A title with x2 &amp; code"),
        (["no heading"], "a"),
        (["```python\n# a comment\n```\n\n# After"], "After"),
    ],
)
def test_the_title_is_the_first_heading(tmp_path, cells, title):
    text = convert(tmp_path, *map(new_markdown_cell, cells))
    assert f"<title>{title}</title>" in text and text.count("<h1") == 1


def test_output_is_in_a_fixed_width(tmp_path):
    source = shown(text_markdown="```python\ndef f(): pass\n```")
    text = convert(tmp_path, code(source, new_output("stream", name="stdout", text="a  b")))
    assert re.search(r"pre, code[^{]*\{[^}]*monospace", text) and "<pre>a  b</pre>" in text


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_notebook_is_told(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(DataError, match="no readable notebook"):
        write_html(tmp_path / "a.ipynb")


def test_the_way_back(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    folder = tmp_path / "notebooks" / "phase1"
    folder.mkdir(parents=True)
    assert 'href="../../index.html"' in convert(folder, new_markdown_cell("# A"))
    assert "index.html" not in convert(tmp_path, new_markdown_cell("# A"))


def test_links_lead_to_pages_and_files_that_are_there(tmp_path):
    here, source = tmp_path / "outputs" / "notebooks" / "phase1", tmp_path / "phase 1"
    for path in (
        here / "02_b.html",
        source / "02_b.ipynb",
        source / "LOG.md",
        source / "03_c.ipynb",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    text = "[b](02_b.ipynb#x) [c](03_c.ipynb) [l](LOG.md) [w](https://a.b/c) [n](none.md) [h](#x)"
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    notebook.metadata["papermill"] = {"input_path": str(source / "01_a.ipynb")}
    nbformat.write(notebook, here / "01_a.ipynb")
    links = Requests(write_html(here / "01_a.ipynb").read_text(encoding="utf-8")).links
    up = "../../../phase%201/"
    wanted = ["02_b.html#x", f"{up}03_c.ipynb", f"{up}LOG.md", "https://a.b/c", "none.md", "#x"]
    assert links == wanted


# Formulas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        r"\frac{a}{b} < c \& d",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\begin{align*} a &= b \end{align*}",
        r"\begin{gathered} a \\ b \end{gathered}",
        r"\mathbb{R}^{n} \to \hat{\mathbf{y}}_{t-1}",
        r"\operatorname{softmax}(x)\,\text{for } x",
    ],
)
def test_formulas_are_well_formed(formula):
    for block in (True, False):
        tree = ElementTree.fromstring(to_mathml(formula, block))
        assert tree.tag.endswith("math") and tree.get("display") == ("block" if block else "inline")
        assert "&" not in "".join(tree.itertext()) or r"\&" in formula


@pytest.mark.parametrize("formula", [r"\left( x", "^", "{", r"\foo{", " ", "<b>", "\x00"])
def test_what_is_no_formula_stays_as_it_is_written(formula):
    assert "<b>" not in to_mathml(formula) and "\x00" not in to_mathml(formula)


def test_formulas_in_a_page(tmp_path):
    cell = new_markdown_cell("# A\n\nWith $x_i$ and $$\\frac{a}{b}$$ but 5 \\$ and `$y$`.")
    text = convert(tmp_path, cell, code(shown(text_markdown="$z$")))
    assert text.count("<math") == 3 and "$x" not in text and "<code>$y$</code>" in text


# Streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("\r 0 %\r50 %\r100 %\n", "100 %\n"),
        ("\rlonger\rshort", "short"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("\r50 %\r     \rdone\n", "done\n"),  # a bar that is taken away
        ("\r50 %\r     \r", ""),
        ("outer 0\n\rinner 1\x1b[A\router 1\n\rinner 2", "outer 1\ninner 2"),
        ("\x1b[1A\x1b[2Kx", "x"),
        ("abc\x08d", "abd"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("", ""),
    ],
)
def test_streams_end_as_a_terminal_shows_them(text, end):
    assert settle(text) == end


def test_a_bar_in_pieces_is_one_line(tmp_path):
    pieces = [new_output("stream", name="stderr", text=f"\rbar {i} %") for i in (0, 50, 100)]
    text = convert(tmp_path, code(*pieces, new_output("stream", name="stdout", text="end")))
    assert re.findall(r"bar \d+ %", text) == ["bar 100 %"] and "<pre>end</pre>" in text


def test_a_notebook_is_left_as_it_is(tmp_path):
    convert(tmp_path, code(shown(image_png=PNG)))
    kept = json.loads((tmp_path / "a.ipynb").read_text())
    assert kept["cells"][0]["outputs"][0]["metadata"] == {}
