"""The line at which a notebook stopped, as IPython tells of it."""

from types import SimpleNamespace

import pytest

from common.course.kernel import failed_line

SOURCE = "import json\n\ndata = json.loads(\n    text\n)"
TRACES = {
    "a call": (
        [
            "\x1b[31mKeyError\x1b[39m   Traceback (most recent call last)",
            "\x1b[36mCell\x1b[39m\x1b[36m "
            "\x1b[39m\x1b[32mIn[3]\x1b[39m\x1b[32m, line 3\x1b[39m\n      1 import json",
            "File json.py:3, in x",
        ],
        "data = json.loads(",
    ),
    "a function of another cell": (["Cell In[3], line 4", "Cell In[2], line 1, in f(x)"], "text"),
    "a syntax error": (["  Cell In[3], line 1\n    import json\n"], "import json"),
    "an empty line": (["Cell In[3], line 2"], None),
    "a line that is not there": (["Cell In[3], line 30"], None),
    "magic": (["File <timed exec>:2"], None),
    "nothing": ([], None),
}


@pytest.mark.parametrize("what", TRACES)
def test_failed_line(what):
    trace, line = TRACES[what]
    assert failed_line(SimpleNamespace(traceback=trace, source=SOURCE)) == line
