"""Axes are stretched where values span orders of magnitude, and only there."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmark.drawing.axes import stretch


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 0.2, 5000.0], "log"),  # positive: the largest is 25,000 times the median
        ([-8e7, -2.0, 1.0, 3.0, 40.0], "symlog"),
        ([1.0, 2.0, 3.0], "linear"),
        ([-100.0, 0.0, 900.0], "linear"),
        ([float("nan")], "linear"),
    ],
)
def test_an_axis_is_stretched_where_values_span_orders_of_magnitude(values: list[float], scale: str) -> None:
    axis = Figure().subplots()
    assert stretch(axis, pd.Series(values)) is (scale != "linear")
    assert axis.get_yscale() == scale
