"""Diagrams of residual blocks and of the networks made of them."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from common.errors import ConfigError
from common.plots.style import PALETTE, WIDTH, new_figure, plain

# From the input on; "+" is where the shortcut arrives.
BLOCKS = {
    "plain": ("conv 3x3", "norm", "relu", "conv 3x3", "norm", "relu"),
    "residual": ("conv 3x3", "norm", "relu", "conv 3x3", "norm", "+", "relu"),
    "pre-activation": ("norm", "relu", "conv 3x3", "norm", "relu", "conv 3x3", "+"),
    "bottleneck": (
        *("conv 1x1", "norm", "relu", "conv 3x3", "norm", "relu", "conv 1x1", "norm"),
        *("+", "relu"),
    ),
    "single convolution": ("conv 3x3", "norm", "relu", "+"),
}
_COLOURS = {"conv": PALETTE[0], "norm": PALETTE[2], "relu": PALETTE[1]}


def block_diagram(*kinds: str) -> Figure:
    """Blocks side by side, from the input above to the output below.

    Args:
        *kinds: Some of `BLOCKS`.

    Raises:
        ConfigError: for another kind.
    """
    if others := [kind for kind in kinds if kind not in BLOCKS]:
        raise ConfigError(f"There is no diagram of {others[0]!r}. There are: {', '.join(BLOCKS)}.")
    longest = max(len(BLOCKS[kind]) for kind in kinds)
    figure, [places] = new_figure(1, len(kinds), 1.5 * len(kinds), 0.6 + 0.42 * longest)
    for axes, kind in zip(places, kinds, strict=True):
        _draw_block(axes, BLOCKS[kind], longest)
        axes.set_title(kind, fontsize=9)
    return figure


def _draw_block(axes: Axes, steps: tuple[str, ...], longest: int) -> None:
    axes.set(xlim=(-1.5, 1.3), ylim=(longest + 1.3, -0.6), aspect="auto")
    axes.axis("off")
    axes.text(0, -0.1, "x", ha="center", va="bottom", fontsize=9, style="italic")
    _arrow(axes, (0, 0), (0, 0.72))
    for row, step in enumerate(steps, start=1):
        if step == "+":
            axes.add_patch(Circle((0, row), 0.3, facecolor="white", edgecolor="0.3", lw=0.9))
            # The shortcut, around all of F.
            axes.plot([0, -1.15, -1.15], [0.3, 0.3, row], color="0.1", lw=1)
            _arrow(axes, (-1.15, row), (-0.3, row), colour="0.1")
        else:
            colour = (*_COLOURS[step.split()[0]], 0.35)
            axes.add_patch(
                Rectangle((-0.75, row - 0.28), 1.5, 0.56, facecolor=colour, edgecolor="0.4", lw=0.7)
            )
        axes.text(0, row, step, ha="center", va="center", fontsize=8)
        _arrow(axes, (0, row + 0.28), (0, row + 0.72))
    axes.text(0, len(steps) + 0.75, "y", ha="center", va="top", fontsize=9, style="italic")


def _arrow(axes, start, end, colour="0.35"):
    head = {"arrowstyle": "-|>", "mutation_scale": 7, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, lw=1, **head))


def network_strip(parts: list[tuple[str, int, int]], title: str = "") -> Figure:
    """What a network makes of an image: a box per part, as high as its maps, as wide as they are.

    Args:
        parts: Of each its name, the side of its output in pixels, and its channels; in order.
        title: Of the figure.
    """
    figure, [[axes]] = new_figure(width=WIDTH, height=2.2)
    side = max(side for _, side, _ in parts)
    most = max(channels for _, _, channels in parts)
    x = 0.0
    for number, (name, height, channels) in enumerate(parts):
        tall, wide = height / side, 0.16 + 0.5 * channels / most
        box = Rectangle((x, -tall / 2), wide, tall, facecolor=(*PALETTE[0], 0.3), edgecolor="0.3")
        axes.add_patch(box)
        middle = x + wide / 2
        axes.text(middle, -0.56, plain(name), ha="center", va="top", fontsize=8)
        size = f"{height} x {height}" if height > 1 else "1"
        axes.text(middle, 0.54, f"{size}\n{channels}", ha="center", va="bottom", fontsize=7.5)
        if number + 1 < len(parts):
            _arrow(axes, (x + wide + 0.03, 0), (x + wide + 0.27, 0))
        x += wide + 0.3
    axes.set(xlim=(-0.1, x), ylim=(-0.85, 0.95), title=title)
    axes.axis("off")
    return figure
