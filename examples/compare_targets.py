"""MBPO and FTFL in lockstep: the same seeds, two regression targets, and what their models say of the reward.

The rewards of this toy are scaled by 1e-4, so a model with raw targets has no reason to fit them.
"""

import numpy as np

from mbpo import Budget, method, train

TASK = "gym:benchmark.toys:TinyRewardLQR-v0"
SMALL = {
    "random_steps": 400,
    "utd": 1,
    "sac": {"hidden_dims": (16, 16), "batch_size": 32},
    "model": {
        "ensemble_size": 2,
        "num_elites": 1,
        "hidden_dims": (32, 32),
        "weight_decay": 0,
        "updates": 800,
        "learning_rate": 3e-3,
    },
    "rollout": {"per_step": 20},
}
ARMS = ("mbpo", "ftfl")
SEEDS = (0, 1)


def main() -> dict[str, float]:
    """Held-out R2 of the predicted reward of each arm, the mean over seeds, after the first fit."""
    runs = [(method(arm, **SMALL), seed) for arm in ARMS for seed in SEEDS]
    budget = Budget(env_steps=405, eval_every=405, eval_episodes=1)
    *_, last = train(TASK, runs, budget, device="cpu")
    # One entry a run, in the order of `runs`.
    by_arm = last.diagnostics["reward_r2"].reshape(len(ARMS), len(SEEDS))
    scores = {arm: float(np.mean(values)) for arm, values in zip(ARMS, by_arm, strict=True)}
    for arm, score in scores.items():
        print(f"{arm}: reward R2 {score:.2g}")
    return scores


if __name__ == "__main__":
    main()
