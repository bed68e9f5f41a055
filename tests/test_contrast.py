"""Colors that can be read by day and by night, and pictures that lose nothing one could see by being shrunk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.drawing import contrast, jinja, style
from benchmark.drawing.shrink import compact, shrink

CSS = (jinja.TEMPLATES / "report.css").read_text()


def test_known_contrasts() -> None:
    assert contrast.contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast.contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the lightest grey of level AA
    assert contrast.contrast("#123456", "#123456") == 1.0


def test_a_hue_moves_only_as_far_as_it_must() -> None:
    assert contrast.readable("#d1495b", contrast.PAPERS["light"]) == "#d1495b"
    for name in style.COLORS:
        for paper in contrast.PAPERS.values():
            moved = contrast.readable(style.color(f"{name} without touch"), paper)
            assert contrast.contrast(moved, paper) >= contrast.LEAST


def palettes() -> tuple[dict[str, str], dict[str, str]]:
    """The page's colors by day and by night."""
    light, dark = re.findall(r":root \{([^}]*)\}", CSS)[:2]
    by_day = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", light))
    return by_day, by_day | dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", dark))


@pytest.mark.parametrize("night", [False, True])
def test_words_on_the_page_reach_level_aa(night: bool) -> None:
    colors = palettes()[night]
    assert colors["paper"] == contrast.PAPERS["dark" if night else "light"]
    for ink in ("ink", "soft", "reproduced", "contradicted", "inconclusive", "incomplete", "invalid"):
        for ground in ("paper", "band"):
            assert contrast.contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)


def test_every_color_of_a_picture_is_the_pages_to_change(tmp_path: Path) -> None:
    assert style.color("mbpo")[1:] in style.hues() and style.hues().count("--h-d1495b:") == 2
    assert contrast.variable("#d1495b") == "var(--h-d1495b,#d1495b)"
    assert style.CELL not in (style.INK, style.SOFT)  # numbers on shaded cells keep their ink at night


def test_shrinking_rounds_places_and_keeps_words_and_references() -> None:
    svg = (
        '<svg viewBox="0 0 619.2 100" aria-label="R2 of 0.123456">\n <!-- words -->\n <g id="a">\n'
        '  <path id="m" d="M 1.23456 2 \nL 3.10001 -4.0 \nz\n" style="stroke-width: 0.123456"/>\n </g>\n'
        ' <use href="#m" x="10.123456" y="5"/>\n <text x="1.999999">0.123456</text>\n</svg>'
    )
    assert shrink(svg) == (
        '<svg viewBox="0 0 619.2 100" aria-label="R2 of 0.123456"><g><path id="m" d="M1.23 2L3.1 -4z"'
        ' style="stroke-width: 0.123456"/></g><use href="#m" x="10.12" y="5"/><text x="2">0.123456</text></svg>'
    )


def test_a_compact_element_has_one_class_a_style_and_short_ids_of_its_own() -> None:
    drawn = "".join(f'<g><g><path id="p-{i}" style="fill: none; stroke: red"/></g></g>' for i in range(3))
    svg = f'<svg><defs><style type="text/css">*{{a: b}}</style></defs>{drawn}<use href="#p-1" style="x: 1"/></svg>'
    one, other = compact(svg, "one"), compact(svg, "other")
    ids = [re.findall(r' id="([^"]+)"', text) for text in (one, other)]
    assert len(set(ids[0])) == 3 and not set(ids[0]) & set(ids[1])
    assert f'href="#{ids[0][1]}"' in one and "<g" not in one
    (name,) = set(re.findall(r'class="([^"]+)"', one))
    assert one.count(f'class="{name}"') == 3 and f".{name}{{fill:none;stroke:red}}</style>" in one
    assert one.endswith('style="x:1"/></svg>') and name not in other
