import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from common.course.refresh import PICTURES_LEFT_OUT, take_outputs


def notebooks():
    """A notebook, and itself executed: a gallery, a chart, a progress bar."""
    png = {"image/png": "AAAA"}
    gallery = new_code_cell("gallery()", metadata={"tags": ["pictures"]})
    plain = new_notebook(cells=[gallery, new_code_cell("chart()")])
    executed = nbformat.from_dict(nbformat.reads(nbformat.writes(plain), as_version=4))
    executed.cells[0].outputs = [
        new_output("stream", text="120 pairs\n"),
        new_output("display_data", png),
    ]
    executed.cells[1].outputs = [
        new_output("stream", name="stderr", text="10%|#   |"),
        new_output("display_data", png),
    ]
    executed.cells.insert(0, new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]}))
    return plain, executed


def test_pictures_of_others_are_left_out_and_charts_stay():
    plain, executed = notebooks()
    take_outputs(plain, executed, own_pictures=False)
    gallery, chart = (cell.outputs for cell in plain.cells)
    assert [o.text for o in gallery] == ["120 pairs\n", PICTURES_LEFT_OUT]
    assert [list(o.data) for o in chart] == [["image/png"]]


def test_own_pictures_stay():
    plain, executed = notebooks()
    take_outputs(plain, executed)
    assert "image/png" in plain.cells[0].outputs[1].data
    assert [cell.execution_count for cell in plain.cells] == [1, 2]
