"""Watch training through a callback, end it early, and ask the fitted dynamics model what would happen."""

import numpy as np

from mbpo import Budget, Run, View, method, train

MBPO = method(
    "norm-only",
    random_steps=300,
    utd=1,
    sac={"hidden_dims": (16, 16), "batch_size": 32},
    model={"ensemble_size": 3, "num_elites": 2, "hidden_dims": (32, 32), "weight_decay": 0, "updates": 400},
    rollout={"per_step": 20},
)


def main() -> float:
    """Largest difference between predicted and true next observations, over ten pushes of the toy's masses."""
    models = []

    def watch(view: View) -> bool:
        if not view.updates:
            return False
        models.append(view.dynamics())
        lived = view.transitions(last=100)
        print(f"{view.env_steps} env steps, mean reward of the last 100 transitions {lived['reward'].mean():.3f}")
        return True  # one fit is enough: training ends after this row

    budget = Budget(env_steps=5_000, eval_every=310, eval_episodes=1)
    list(train("gym:benchmark.toys:LQR-v0", Run(MBPO, seed=0), budget, callbacks=watch, device="cpu"))
    (model,) = models

    from benchmark.toys import Lqr

    rng, toy = np.random.default_rng(0), Lqr()
    obs, action = rng.uniform(-0.4, 0.4, (10, 4)), rng.uniform(-1, 1, (10, 2))
    predicted, reward = model.sample(obs, action, noise=False)
    true = obs @ toy.A.T + action @ toy.B.T
    error = float(np.abs(predicted - true).max())
    print(f"ten predictions: largest error {error:.3f}, rewards from {reward.min():.2f} to {reward.max():.2f}")
    return error


if __name__ == "__main__":
    main()
