"""`diagnose` and fits tell of the promises that an environment breaks; named tasks cost them nothing."""

import numpy as np
import pytest
from test_promises import broken

from benchmark.diagnosis.samples import broken_promises, collect
from benchmark.records.spec import FitBudget, RunSpec
from benchmark.running import ensure
from mbpo.config import InputError, Method
from mbpo.envs import task_info


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RunningNorm-v0", "carries something over from earlier episodes"),
        ("WrongRule-v0", "its termination rule (own) disagrees with the environment's `terminated`"),
    ],
)
def test_a_broken_promise_is_the_first_note_of_a_diagnosis(name: str, said: str) -> None:
    notes = collect(broken(name), (), 300, 1).notes
    assert notes[0].startswith("Training refuses this: ") and said in notes[0]


def test_a_kept_promise_is_not_told_of() -> None:
    info = task_info("gym:InvertedPendulum-v5")
    rows = np.zeros((1, 8, 2 * info.obs_dim + info.action_dim + 2), np.float32)
    rows[..., -1] = 1.0  # nothing fell, and nothing ended
    assert broken_promises(info, rows) == []
    rows[..., -1] = 0.0
    assert "disagrees with the environment's `terminated`" in broken_promises(info, rows)[0]


def test_a_fit_of_an_environment_that_cannot_be_repeated_is_refused_before_it_collects() -> None:
    spec = RunSpec(
        kind="fit", task=broken("RunningNorm-v0"), method="mbpo", seed=0, constants=Method(), fit=FitBudget()
    )
    with pytest.raises(InputError, match="carries something over"):
        ensure._check([spec], "cpu")
