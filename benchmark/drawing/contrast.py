"""Contrast of colors after WCAG 2: hues that stay apart from the paper of a page, by day and by night."""

from __future__ import annotations

from collections.abc import Iterable

PAPERS = {"light": "#fcfbf9", "dark": "#17181a"}
"""The page's background, as `report.css` has it."""
LEAST = 3.0
"""The least contrast of a mark that carries meaning."""


def luminance(color: str) -> float:
    """Relative luminance of ``#rrggbb``, from 0 to 1."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """From 1, the same, to 21, black on white."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def readable(color: str, paper: str, least: float = LEAST) -> str:
    """The color, moved towards black or white only as far as its contrast with `paper` needs."""
    away = 0 if luminance(paper) > 0.5 else 255
    channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    for percent in range(0, 101, 2):
        moved = "#" + "".join(f"{round(c + (away - c) * percent / 100):02x}" for c in channels)
        if contrast(moved, paper) >= least:
            return moved
    return moved


def variable(color: str) -> str:
    """The CSS variable that stands for a hue on a page; without its definition the hue itself."""
    return f"var(--h-{color[1:]},{color})"


def css(colors: Iterable[str]) -> str:
    """Definitions of the variables of these hues for both papers."""
    hues = list(dict.fromkeys(colors))

    def definitions(paper: str) -> str:
        return "".join(f"--h-{hue[1:]}:{readable(hue, paper)};" for hue in hues)

    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {definitions(PAPERS['dark'])} }} }}"
    return f":root {{ {definitions(PAPERS['light'])} }}\n{dark}\n"
