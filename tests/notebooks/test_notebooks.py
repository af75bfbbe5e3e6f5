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
LESSONS = sorted(ROOT.glob("phase*_*/*.ipynb"))
# Their answers; a lesson that has them keeps to more. The other phases' lessons get theirs later.
SOLUTIONS = sorted(ROOT.glob("phase*_*/solutions/*.ipynb"))
NOTEBOOKS = [*LESSONS, *SOLUTIONS]
ANSWERED = [path for path in LESSONS if path.parent / "solutions" / path.name in SOLUTIONS]
CARDS = sorted(ROOT.glob("phase*_*/MODEL_CARD.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
DOCUMENTS = [*PAGES, *CARDS, *NOTEBOOKS]


def each(paths):
    return pytest.mark.parametrize(
        "path", paths, ids=lambda path: path.relative_to(ROOT).with_suffix("").as_posix()
    )


each_notebook, each_answered = each(NOTEBOOKS), each(ANSWERED)


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def markdown(path):
    return "\n\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")


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
    assert [p.stem for p in LESSONS if p.parent.name == phase] == lessons


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
    told = f'None: COURSE_DATASET, else "{choices.REAL_DATA[path.relative_to(ROOT).parts[0]]}"'
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


@each(LESSONS)
def test_has_exercises(path):
    assert re.search(r"^## Exercises", markdown(path), re.MULTILINE)


# --- lessons with solutions ---


def exercises(path):
    """Titles of a lesson's exercises, each like `1. **Title** (easy, 5 minutes)`."""
    text = markdown(path).split("## Exercises")[1].split("\n## ")[0]
    found = re.findall(r"^\d+\. (.*)", text, re.MULTILINE)
    titles = [
        re.match(r"\*\*([^*]+?)\.?\*\* \((?:easy|medium|hard), \d+ minutes\)", line)
        for line in found
    ]
    assert found and all(titles), f"no title, level and minutes: {found}"
    return [title[1] for title in titles]


@each_answered
def test_each_exercise_has_a_solution(path):
    answers = path.parent / "solutions" / path.name
    assert f"solutions/{path.name}" in links(path)
    assert f"../{path.name}" in links(answers)
    told = re.findall(r"^## \d+\. (.*)", markdown(answers), re.MULTILINE)
    assert told == exercises(path)


def tasks(path):
    """By name, a cell `# YOUR CODE: name` and the cells that test it; and what those printed."""
    cells = code(path)
    found = {}
    for cell in cells:
        if name := re.match(r"# YOUR CODE: (.+)", cell.source):
            call = f'exercise("{name[1]}")'
            tests = [c for c in cells if call in c.source]
            printed = "".join(o.get("text", "") for c in tests for o in c.outputs)
            found[name[1]] = cell.source, [c.source for c in tests], printed
    return found


@each_answered
def test_the_readers_code_is_tested_and_the_solution_passes(path):
    open_, solved = tasks(path), tasks(path.parent / "solutions" / path.name)
    assert open_ and open_.keys() <= solved.keys()
    for name, (stub, tests, printed) in open_.items():
        answer, same_tests, said = solved[name]
        assert "NotImplementedError" in stub and "NotImplementedError" not in answer
        assert tests == same_tests and len(tests) == 1 and "NBVAL_CHECK_OUTPUT" in tests[0], name
        assert f"{name}: not written yet." in printed and f"{name}: solved." in said


@each_answered
def test_figures_are_sharp_and_have_texts(path):
    """What is to be seen in them, kept in the notebook: `plots.show`."""
    for cell in code(path):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                about = output.metadata.get("image/png", {})
                assert len(about.get("alt", "")) > 30, f"without a text: {cell.source[-200:]}"
                assert "width" in about, f"not sharp: {cell.source[-200:]}"


@each_answered
def test_some_cells_are_checked(path):
    checked = [cell for cell in code(path) if "# NBVAL_CHECK_OUTPUT" in cell.source]
    assert len(checked) >= 3


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
        text = markdown(path)
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
