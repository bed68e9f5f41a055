"""How every picture looks: one color per method everywhere, panels placed in inches, equal bytes for equal numbers.

`save` writes files; `svg` gives the text for a page, in which ink and rules take the colors of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing import contrast
from benchmark.drawing.shrink import compact, shrink

WIDE, NARROW = 8.6, 3.9
"""Inches; on a page of 880 and 360 pixels their type is equally large."""
INK, SOFT, RULE, BAND, TRUE = "#1c1c1e", "#6b6b70", "#d9d8d4", "#f1f0ec", "#8c8c91"
"""Only used for themselves, so that a page can replace them by its own."""
COLORS = {
    "sac": "#7a7a7a",
    "sac-utd20": "#b0a99f",
    "mbpo": "#d1495b",
    "norm-only": "#e6a117",
    "direct-only": "#8d5fb0",
    "ftfl": "#2a7fc0",
    "reward-norm": "#2a9d8f",
    "obs-norm": "#a0633c",
    "reward-norm-direct": "#7cc4b8",
    "obs-norm-direct": "#d4a17f",
    "fitted": "#3f4d9b",
    "ftfl-tuned": "#67b7e1",
    "mbpo-ratio-50": "#efb0a1",
    "mbpo-ratio-75": "#e07a5f",
    "fitted-only": "#8a94c9",
    "reward-norm-fitted": "#5f6bb5",
    "obs-norm-fitted": "#a3a8c4",
    "mbpo-learned-bounds": "#6d597a",
    "mbpo-wide-bounds": "#b56576",
    "mbpo-bootstrap": "#9a8c98",
    "mbpo-wide": "#c44569",
    "mbpo-reward-head": "#3c8d5a",
    "sac-same-utd": "#5d5d5d",
    "mbpo-oracle-reward": "#7a1f2b",
    "norm-only-oracle-reward": "#8a5f0a",
    "simulator": "#33691e",
    "mbpo-simulator-reward": "#a1485c",
    "mbpo-simulator-dynamics": "#c98a94",
    "mbpo-layer-norm": "#2e8b57",
    "norm-only-layer-norm": "#7cb342",
    "ftfl-layer-norm": "#00acc1",
    "ftfl-mean": "#5c8fd6",
    "ftfl-ratio-50": "#9bbce0",
    "norm-only-mean": "#8f4014",
    "norm-only-clip": "#875b24",
    "norm-only-alpha-fixed": "#7d6c36",
    "norm-only-alpha-bounded": "#a39d17",
    "norm-only-alpha-slow": "#995129",
    "norm-only-alpha-reward": "#8d6a3c",
    "norm-only-bounded-mean": "#b7911a",
    "norm-only-mean-penalty": "#aba62e",
    "norm-only-z-scored": "#9d6443",
    "norm-only-obs-clip": "#cb7e1d",
    "norm-only-feature-norm": "#bd9c33",
    "norm-only-reward-backup": "#ada94a",
    "mbpo-feature-norm": "#8f144f",
    "mbpo-reward-backup": "#a52c4e",
    "ftfl-feature-norm": "#14808f",
    "ftfl-reward-backup": "#276f91",
    "norm-only-reset": "#df6520",
    "ftfl-reset": "#3d648f",
    "norm-only-entropy-1": "#ca8c3c",
    "norm-only-twin-mean": "#b7a057",
    "norm-only-redq": "#e2db34",
    "norm-only-discount-95": "#cf7d4e",
    "norm-only-length-5": "#be9867",
    "norm-only-length-10": "#e5bf48",
    "norm-only-length-20": "#d4d060",
    "ftfl-length-5": "#1c4bc4",
    "ftfl-length-10": "#34b0c1",
    "ftfl-length-20": "#5496b6",
    "norm-only-ratio-5": "#c59377",
    "norm-only-ratio-10": "#e8aa5c",
    "norm-only-ratio-25": "#d9c072",
    "norm-only-ratio-50": "#ccc987",
    "norm-only-ratio-75": "#eb9c70",
    "ftfl-ratio-5": "#3b8be3",
    "ftfl-ratio-10": "#5e7fd4",
    "ftfl-ratio-25": "#7ebfc8",
    "ftfl-ratio-75": "#70c3eb",
    "mbpo-ratio-5": "#b24d55",
    "mbpo-ratio-10": "#e55b48",
    "mbpo-ratio-25": "#dc7eac",
    "sac-same-utd-layer-norm": "#5b484e",
    "sac-same-utd-feature-norm": "#b7a4a6",
    "mbpo-masked": "#c2185b",
    "mbpo-penalized": "#f06292",
    "mbpo-adaptive": "#ad6f80",
    "ftfl-masked": "#0277bd",
    "ftfl-penalized": "#4fa3d1",
    "ftfl-adaptive": "#57809a",
    "mbpo-janner": "#8c1c2f",
    "ftfl-janner": "#0b4a75",
}
CELL = "#1c1c1f"
"""The ink of numbers on shaded cells, which are light on every page."""
MARKERS = {"mbpo": "o", "norm-only": "D", "direct-only": "^", "ftfl": "s", "sac": "v", "fitted": "P", "ftfl-tuned": "X"}
SPARE = ("#5b8c5a", "#c2679e", "#4c4c9d", "#9c9a3d")
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "mbpo",
    "path.simplify": False,
}


styled = mpl.rc_context(STYLE)
"""Decorates a function that draws."""


def color(method: str) -> str:
    """The arm's color: its method's, paler without some observations; one on no palette gets a spare by its name."""
    whole, _, dropped = method.partition(" without ")
    found = COLORS.get(whole) or SPARE[sum(map(ord, whole)) % len(SPARE)]
    return _pale(found) if dropped else found


def _pale(hue: str) -> str:
    """Half way to white: an arm whose observations lack something."""
    return "#" + "".join(f"{(int(hue[i : i + 2], 16) + 255) // 2:02x}" for i in (1, 3, 5))


@styled
def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.svg``, without date or software, and with places to a hundredth of a point."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    _SAVED[figure] = _text(figure)
    path.write_text(shrink(_SAVED[figure]), encoding="utf-8", newline="")
    return [path]


_SAVED: WeakKeyDictionary[Figure, str] = WeakKeyDictionary()
"""The svg of figures that were saved, which are not drawn on again."""


def _text(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


_PAPER = re.compile(r'(<path d="M (\S+ \S+) \n(?:L \S+ \S+ \n)+)z\n" style="fill: #ffffff"/>')
"""What a file has behind its panels, and a page has not."""


@styled
def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `svg` element for a page: ids of its own, the page's colors, `description` for readers."""
    text = _PAPER.sub(r'\1L \2 \nz\n" style="fill: none"/>', _SAVED.get(figure) or _text(figure), count=1)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    for ink, variable in ((INK, "ink"), (SOFT, "soft"), (RULE, "rule"), (BAND, "band")):
        text = text.replace(ink, f"var(--{variable})")
    text = text.replace("fill: #ffffff; stroke", "fill: var(--paper); stroke")  # hollow marks; not words on dark cells
    for hue in _hues():
        text = text.replace(hue, contrast.variable(hue))
    text = re.sub(r"font: ([0-9.]+)px '?DejaVu Sans'?(, sans-serif)?", r"font: \1px var(--sans)", text)
    head = f'<svg role="img" aria-label="{escape(description)}" '
    text = re.sub(
        r"<svg [^>]*?viewBox=(\"[^\"]+\")[^>]*>",
        rf'{head}viewBox=\1 xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
    return compact(shrink(text.strip()), name)


def hues() -> str:
    """The style sheet of every hue of a method, by day and by night, for pages that hold pictures by `svg`."""
    return contrast.css(_hues())


def _hues() -> list[str]:
    whole = [*COLORS.values(), *SPARE]
    return list(dict.fromkeys([*whole, *map(_pale, whole), TRUE]))


def both_widths(draw: Callable[[float], Figure], name: str, caption: str) -> dict[str, str]:
    """The figure for wide and narrow pages, with its caption: ``wide, narrow, caption``."""
    sizes = {"wide": WIDE, "narrow": NARROW}
    return {size: svg(draw(width), f"{name}-{size}", caption) for size, width in sizes.items()} | {"caption": caption}


def canvas(
    width: float,
    rows: int,
    columns: int,
    height: float,
    *,
    left: float,
    foot: float = 0.5,
    head: float = 0.42,
    gap: float,
    title: float = 0.0,
    below: float = 0.28,
) -> tuple[Figure, list[Axes]]:
    """A figure of panels placed in inches, so that labels keep their distance whatever the number of rows.

    Each panel is `height` high under a `title`; `left` is for the first column's labels, `head` for the legend, `foot`
    for the last row's axis, `gap` and `below` part the panels.
    """
    right = 0.12
    total = head + rows * (height + title) + (rows - 1) * below + foot
    figure = Figure(figsize=(width, total))
    inner = (width - left - right - (columns - 1) * gap) / columns
    axes = []
    for row in range(rows):
        for column in range(columns):
            x = left + column * (inner + gap)
            y = total - head - (row + 1) * (height + title) - row * below
            axes.append(figure.add_axes((x / width, y / total, inner / width, height / total)))
    return figure, axes


_LETTERS = 14
"""Of a legend, with what parts its entries, in an inch."""


def legend(
    figure: Figure, methods: Sequence[str], lines: bool = False, extra: Sequence[tuple[str, Line2D]] = ()
) -> None:
    """The methods in their colors above the panels, in as few rows as the width allows."""
    handles = [
        Line2D([], [], color=color(m), linewidth=2)
        if lines
        else Line2D([], [], linestyle="", marker=MARKERS.get(m, "o"), color=color(m), markersize=5, markeredgewidth=0)
        for m in methods
    ]
    labels = list(methods)
    for label, handle in extra:
        labels.append(label)
        handles.append(handle)
    wide = figure.get_figwidth() > 6
    columns = len(labels) if wide or len(labels) < 5 else 3
    if wide and sum(len(label) + 5 for label in labels) > _LETTERS * figure.get_figwidth():
        columns = -(-len(labels) // 2)
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.0, 1.0), ncol=columns, frameon=False, handlelength=1.1,
        handletextpad=0.5, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip


def striped_rows(axis: Axes, labels: Sequence[str]) -> None:
    """One row per label from the top down, every second one on a band."""
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(axis="y", length=0, pad=6, labelcolor=INK)
    axis.spines["left"].set_visible(False)
    for position in range(1, len(labels), 2):
        axis.axhspan(position - 0.5, position + 0.5, color=BAND, linewidth=0, zorder=0)
