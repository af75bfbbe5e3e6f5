"""What every committed notebook keeps to, and links that resolve, without running anything."""

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import papermill
import pytest

from common import choices
from common.course.bootstrap import CELL, REPOSITORY
from common.course.refresh import MAX_BYTES, MAX_FIGURE_BYTES, check_size
from common.errors import CourseError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(ROOT.glob("phase*_*/*.ipynb"))
CARDS = sorted(ROOT.glob("phase*_*/MODEL_CARD.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
DOCUMENTS = [*PAGES, *CARDS, *NOTEBOOKS]

each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


PATCHES = ["01_eda", "02_model", "03_training", "04_evaluation"]
CAPTIONS = [
    "01_eda",
    "02_features",
    "03_embeddings",
    "04_model",
    "05_training",
    "06_reward",
    "07_evaluation",
]


@pytest.mark.parametrize(
    "phase, lessons",
    [
        ("phase1_cifar", PATCHES),
        ("phase2_histopathology", PATCHES),
        ("phase3_captioning", CAPTIONS),
    ],
)
def test_there_are_notebooks(phase, lessons):
    assert [p.stem for p in NOTEBOOKS if p.parent.name == phase] == lessons


@each_notebook
def test_is_valid_and_names_the_kernel(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.metadata["kernelspec"]["language"] == "python"


@each_notebook
def test_one_parameters_cell(path):
    tagged = [cell for cell in code(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    parameters = papermill.inspect_notebook(str(path))
    assert list(parameters)[:4] == ["dataset", "profile", "seed", "run_name"]
    defaults = [parameters[name]["default"] for name in list(parameters)[:4]]
    assert defaults == ["None", "None", "0", "None"]
    told = f'None: COURSE_DATASET, else "{choices.REAL_DATA[path.parent.name]}"'
    assert parameters["dataset"]["help"].endswith(told)
    assert all(parameter["help"] for parameter in parameters.values())


@each_notebook
def test_first_cells(path):
    """A title, the parameters, the bootstrap cell: all before anything else runs."""
    assert read(path).cells[0].cell_type == "markdown"
    assert read(path).cells[0].source.startswith("# ")
    bootstrap = [i for i, cell in enumerate(code(path)) if "common.course.bootstrap" in cell.source]
    assert len(bootstrap) == 1 and bootstrap[0] <= 1
    assert code(path)[bootstrap[0]].source == CELL.strip()
    assert "parameters" in code(path)[1 - bootstrap[0]].metadata["tags"]


@each_notebook
def test_has_exercises(path):
    titles = [c.source for c in read(path).cells if c.cell_type == "markdown"]
    assert any(re.search(r"^## Exercises", text, re.MULTILINE) for text in titles)


@each_notebook
def test_is_committed_with_outputs_of_a_whole_run(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not [o for o in outputs if o.output_type == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    assert not [c for c in cells if "injected-parameters" in c.metadata.get("tags", [])]


@each_notebook
def test_is_small(path):
    assert path.stat().st_size <= MAX_BYTES
    check_size(read(path), path.stem)


def test_check_size_counts_figures():
    cell = nbformat.v4.new_code_cell("")
    data = {"image/png": "A" * (2 * MAX_FIGURE_BYTES)}
    cell.outputs = [nbformat.v4.new_output("display_data", data)]
    with pytest.raises(CourseError, match=f"{3 * MAX_FIGURE_BYTES // 2000} kB of it figures"):
        check_size(nbformat.v4.new_notebook(cells=[cell]), "x")


def links(path):
    """Targets of Markdown and HTML links and images in a document."""
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    pattern = r"""\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|(?:href|src)=["']([^"']+)["']"""
    return [a or b for a, b in re.findall(pattern, text)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path):
    colab = "https://colab.research.google.com/github/"
    repository = REPOSITORY.removeprefix("https://github.com/")
    for link in links(path):
        if link.startswith(colab):
            match = re.fullmatch(rf"{colab}{repository}/blob/[^/]+/(.+\.ipynb)", link)
            assert match, f"{link} is not a notebook of {repository}"
            assert (ROOT / match[1]).is_file(), link
        elif not re.match(r"[a-z]+:|#", link):
            target = path.parent / unquote(link.split("#")[0])
            assert target.exists(), f"{link} leads nowhere"


def test_links_are_found(tmp_path):
    document = tmp_path / "x.md"
    document.write_text(
        '[a](b.md "title") [![i](c.svg)](d.ipynb#e) <a href="f">\n```\n[no](no.md)\n```\n'
    )
    assert links(document) == ["b.md", "c.svg", "d.ipynb#e", "f"]
