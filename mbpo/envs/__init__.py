"""Environments: every task as flat float32 observations and actions in [-1, 1], many at a time.

batch         `EnvBatch`: many environments of one task, whose state is each episode's seed and actions
flat          one environment with flat observations
simulators    where the environments of a batch live: in turn here, or side by side in processes
aside         a trial in a process of its own
surroundings  what a whole process shares, and an environment may not change
load          from a task id to its simulator
tasks         what is known of a task: sizes, observation groups
promises      short trials of what a learner takes an environment's word for
terminations  when an episode ends early, for synthetic rollouts
agreement     whether that is what the environment's own flag says
rewards       what a step is worth, for synthetic rollouts; these last three alone import torch
"""

from mbpo.envs.batch import EnvBatch
from mbpo.envs.flat import FlatEnv, make_env, task_info
from mbpo.envs.load import known_tasks
from mbpo.envs.tasks import TaskInfo

__all__ = ["EnvBatch", "FlatEnv", "TaskInfo", "known_tasks", "make_env", "task_info"]
