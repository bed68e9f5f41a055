"""Train FTFL on an environment of one's own, keep the policy, load it elsewhere and let it act.

Networks and budget are tiny, so that this runs in seconds; leave out the changes for the paper's constants.
"""

import sys
from pathlib import Path

from gymnasium.wrappers import TimeLimit

from mbpo import Budget, Run, load_policy, method, train

try:
    from examples.thermostat import Thermostat
except ImportError:  # called from another folder
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.thermostat import Thermostat

FTFL = method(
    "ftfl",
    random_steps=60,
    utd=1,
    sac={"hidden_dims": (32, 32), "batch_size": 64},
    model={"ensemble_size": 3, "num_elites": 2, "hidden_dims": (32, 32), "weight_decay": 1e-4, "updates": 60},
    rollout={"per_step": 20},
)


def make():
    """A fresh environment at every call: such a factory is all that `train` needs, without any registration."""
    return TimeLimit(Thermostat(), 50)


def main(folder: Path) -> None:
    """Train for 200 steps; rows go to a CSV file, the policy to a file of its own."""
    policy_file = folder / "thermostat.safetensors"

    def keep(view):
        view.policy().save(policy_file)

    budget = Budget(env_steps=200, eval_every=100, eval_episodes=2)
    log = folder / "thermostat.csv"
    log.unlink(missing_ok=True)  # a logger never writes over a file
    for row in train(make, Run(FTFL, seed=0), budget, logger=log, callbacks=keep, device="cpu"):
        print(f"{row.env_steps} env steps: mean return {row.returns.mean():.1f}")

    policy = load_policy(policy_file)
    env = Thermostat()
    obs, _ = env.reset(seed=1)
    for _ in range(3):
        action = policy.act(obs)  # raw observations in, kW out
        obs, reward, *_ = env.step(action)
        print(f"{action[0]:.2f} kW: the room has {obs[0]:.1f} degrees, reward {reward:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
