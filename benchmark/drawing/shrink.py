"""Smaller svg for a page that holds hundreds of pictures: what no eye can see is left out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

_PLACES = re.compile(r'\b(d|x|y|width|height|points|transform)="([^"]*)"')
_STYLE = re.compile(r' style="([^"]*)"')
_NUMBER = re.compile(r"-?\d+\.\d+")


def shrink(svg: str) -> str:
    """The same picture with places to a hundredth of a point, without comments, blank lines and ids nobody uses."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _PLACES.sub(lambda match: f'{match[1]}="{_short(match[1], match[2])}"', svg)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)
    return re.sub(r">\s+<", "><", svg)


def compact(svg: str, name: str) -> str:
    """The same element of a page with short ids, one class for each style that is repeated, and no empty groups.

    `name` is that of the picture; ids and classes made from it meet those of no other.
    """
    prefix = "s" + hashlib.sha256(name.encode()).hexdigest()[:7]
    ids = {old: f"{prefix}{i:x}" for i, old in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', svg)))}
    svg = re.sub(r'( id="|href="#|url\(#)([^")]+)', lambda m: m[1] + ids.get(m[2], m[2]), svg)
    svg = _STYLE.sub(lambda m: f' style="{_tight(m[1])}"', svg)
    repeated = [style for style, times in Counter(_STYLE.findall(svg)).items() if times > 2]
    classes = {style: f"{prefix}-{i:x}" for i, style in enumerate(repeated)}
    svg = _STYLE.sub(lambda m: f' class="{classes[m[1]]}"' if m[1] in classes else m[0], svg)
    rules = "".join(f".{short}{{{style}}}" for style, short in classes.items())
    svg = svg.replace("</style>", f"{rules}</style>", 1)
    bare = re.compile(r"<g>((?:(?!<g[ >]|</g>).)*)</g>", re.DOTALL)
    while (fewer := bare.sub(r"\1", svg)) != svg:
        svg = fewer
    return svg


def _tight(style: str) -> str:
    return re.sub(r"([:;]) +", r"\1", style)


def _short(name: str, text: str) -> str:
    text = _NUMBER.sub(lambda match: f"{round(float(match[0]), 2):g}", " ".join(text.split()))
    return re.sub(r" ?([MLCQz]) ?", r"\1", text) if name == "d" else text
