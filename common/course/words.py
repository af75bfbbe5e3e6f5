"""Names and values of settings and metrics as a reader wants them."""

import json
import numbers
import re
from collections.abc import Mapping

from common.paths import visible

# Metrics told in per cent, all whose names hold one of these.
PERCENT = ("accuracy", "f1", "precision", "recall", "specificity", "true_captions")
_DEEPEST = 20  # levels of settings that are told one by one


def missing(cell: object) -> bool:
    return cell is None or cell != cell


def in_percent(name: str) -> bool:
    """Whether a metric is a share, told in per cent."""
    return any(part in name for part in PERCENT)


def show(name: str, value: object) -> str:
    """A value as a reader wants it: shares in per cent, few digits, nothing for nothing."""
    if isinstance(value, (list, dict)):
        try:
            return json.dumps(value, ensure_ascii=False)
        except RecursionError:
            return "nested too deeply"
    if missing(value):
        return ""
    if isinstance(value, float):
        if in_percent(name):
            return f"{100 * value:.2f} %"
        if value.is_integer():
            return f"{value:.0f}"
        return f"{value:.1f}" if name in ("minutes", "seconds") else f"{value:.4g}"
    return str(value)


def ends(name: str, values: Mapping[str, object]) -> list[str]:
    """The two ends of a metric's interval; none where they are not told.

    Args:
        name: Of the metric; the ends are called `name_low` and `name_high`.
        values: That and other metrics.
    """
    last = name.rsplit(".", 1)[-1]
    found = [show(last, values.get(f"{name}_{end}")) for end in ("low", "high")]
    return found if all(found) else []


def interval(name: str, values: Mapping[str, object]) -> str:
    """The same as a text to stand beside the metric: "80.20 to 89.97" of shares in per cent."""
    return " to ".join(end.removesuffix(" %") for end in ends(name, values))


def is_number(value: object) -> bool:
    """Whether it has a place on an axis: no text, no truth, not infinite."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return bool(number and abs(value) < 1e300)  # False of NaN


def duration(seconds: object) -> str:
    """ "12 s", "3 min" or "2 h 5 min"; what is no number as it is."""
    if not is_number(seconds):
        return show("seconds", seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


_WORDS = {"bleu_": "BLEU-", "cider_d": "CIDEr-D", "rouge_l": "ROUGE-L", "meteor": "METEOR"}
_WORDS |= {"roc_auc": "ROC AUC", "ece": "ECE", "f1": "F1", "tta": "with TTA", "val": "validation"}


def in_words(name: str) -> str:
    """The name of a column or a metric as a reader wants it: "test BLEU-4" of "test_bleu_4"."""
    for part, word in _WORDS.items():
        name = re.sub(rf"(?<![^\W_]){part}(?![^\W\d_])", word, name)
    return name.replace("_", " ")


def flat(values: dict, before: str = "", depth: int = 0) -> dict:
    """Nested dictionaries as one, with names such as `recipe.epochs`."""
    found = {}
    for key, value in values.items():
        name = f"{before}{visible(key)}"
        deeper = isinstance(value, dict) and depth < _DEEPEST
        found |= flat(value, f"{name}.", depth + 1) if deeper else {name: value}
    return found
