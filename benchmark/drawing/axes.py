"""Axes for values that span orders of magnitude."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def stretch(axis: Axes, values: pd.Series) -> bool:
    """Make the axis logarithmic, away from zero at least, where `values` span orders of magnitude; whether it did."""
    sizes = values.abs()[np.isfinite(values)]
    if not len(sizes) or sizes.max() < 1e4 * max(sizes.median(), 1e-12):
        return False
    if (values.dropna() > 0).all():
        axis.set_yscale("log")
    else:
        axis.set_yscale("symlog", linthresh=100.0)
        top = int(np.ceil(np.log10(sizes.max())))
        powers = [10.0**power for power in range(2, top + 1, 2)]
        axis.set_yticks([*(-p for p in powers if -p >= values.min()), 0.0, *(p for p in powers if p <= values.max())])
    return True
