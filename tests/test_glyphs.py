"""The small pictures of verdicts: what is reproduced is drawn inside the region that is claimed."""

from itertools import product
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Score
from benchmark.report import glyphs, panels
from benchmark.suite.criterion import Criterion

RULES = [
    Criterion(kind=kind, direction=direction, margin=margin, relative=relative)
    for kind, direction, (margin, relative) in product(
        ("difference", "non-inferiority", "equivalence"),
        ("higher", "lower"),
        ((0.0, False), (0.3, False), (0.2, True), (0.5, True)),
    )
    if margin or kind == "difference"
]


def family(seed, forward):
    """Scores on six tasks of unlike size, some with the arm far above, some alike, some far below."""
    rng = np.random.default_rng(seed)
    found = {}
    for index in range(6):
        y = 10.0 ** rng.uniform(-1, 2) * np.exp(0.1 * rng.normal(size=6))
        x = (
            y * 10.0 ** rng.uniform(-1, 1) * np.exp(0.1 * rng.normal(size=6))
            if index % 3
            else rng.permutation(y) * 1.01
        )
        arms = [tuple(Score(s, float(v), 1) for s, v in enumerate(forward(values))) for values in (x, y)]
        found[f"t{index}"] = Evidence("a", "b", *arms)
    return found


@pytest.mark.parametrize("forward", [np.asarray, np.log10, np.negative], ids=["plain", "log10", "negative"])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{r.kind}-{r.direction}-{r.words}")
def test_what_is_reproduced_is_drawn_inside_the_claimed_region(rule, forward):
    rules = rule.model_copy(update={"level": 0.2})
    inside = 0
    for seed in range(4):
        outcomes = list(judge(rules, family(seed, forward)).values())
        scale = glyphs.Forest(rules, outcomes)
        for out in outcomes:
            svg = ElementTree.fromstring(scale.row(out, "teal"))
            shade, line = svg.find("rect"), svg.findall("line")[1]
            left = float(shade.attrib["x"])
            right = left + float(shade.attrib["width"])
            if out.verdict == "reproduced":
                inside += 1
                assert float(line.attrib["x1"]) >= left - 0.2 and float(line.attrib["x2"]) <= right + 0.2
            elif out.verdict == "contradicted":
                within = float(line.attrib["x1"]) > left + 0.2 and float(line.attrib["x2"]) < right - 0.2
                assert not within
    # Scores below 0 cannot exceed their reference by all of its size.
    assert inside or rule.kind == "equivalence" or (rule.relative and forward is np.negative)


def test_an_aggregate_says_over_how_many_tasks_it_is():
    frame = pd.DataFrame(
        [("gym", "sac", "ftfl", 0.5, 0.4, 0.6, 1), ("dmc", "sac", "ftfl", 0.5, 0.4, 0.6, 7)],
        columns=["suite", "method", "over", "probability", "interval_low", "interval_high", "tasks"],
    )
    label = panels.improvements(frame).axes[0].get_xlabel()
    assert "Gym: 1 task only" in label and "DeepMind Control: 7 tasks" in label
