"""Episodes of a kept policy in its own environment, and films of them."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mbpo.config import InputError
from mbpo.envs.load import DmcEnv, load
from mbpo.policies import Policy

SIZE = (240, 320)
"""Height and width of a film of dm_control."""
ENDINGS = (".gif", ".mp4")
Frame = np.ndarray[Any, Any]


class Episode(NamedTuple):
    """One episode that was played."""

    seed: int
    total: float
    steps: int
    terminated: bool


def play(policy: Policy, seeds: range, deterministic: bool = True, film: Path | None = None) -> list[Episode]:
    """Play an episode of the raw environment per seed; with `film`, write all of them to that file.

    Raises `InputError` for an environment that cannot be made or drawn, and for a name that is no film's.
    """
    task = policy.native.task
    if film is not None:
        check_film(film)
    env = load(task) if film is None else _drawing_env(task)
    frames: list[Frame] = []
    draw = None if film is None else renderer(env, task)
    try:
        episodes = [_episode(policy, env, seed, deterministic, draw, frames) for seed in seeds]
        rate = _rate(env)
    finally:
        env.close()
    if film is not None:
        write_film(film, frames, rate)
    return episodes


def _rate(env: Any) -> float:
    """Pictures a second at which a film runs as fast as the simulated world."""
    if isinstance(env.unwrapped, DmcEnv):
        return float(1.0 / env.unwrapped._env.control_timestep())
    return float((getattr(env, "metadata", None) or {}).get("render_fps", 30))


def _episode(
    policy: Policy, env: Any, seed: int, deterministic: bool, draw: Callable[[], Frame] | None, frames: list[Frame]
) -> Episode:
    policy.seed(seed)
    obs, _ = env.reset(seed=seed)
    total, steps, over, terminated = 0.0, 0, False, False
    limit = policy.native.time_limit
    while not over:
        if draw is not None:
            frames.append(draw())
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs, deterministic))
        total, steps = total + float(reward), steps + 1
        over = bool(terminated or truncated) or steps == limit
    if draw is not None:
        frames.append(draw())
    return Episode(seed, total, steps, bool(terminated))


def drawn(task: str) -> str:
    """`task` with the argument by which Gymnasium environments draw. Raises `InputError` for one that does not."""
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo is imported
    if task.startswith("dmc:"):
        return task
    env = load(task)
    modes = (getattr(env.unwrapped, "metadata", None) or {}).get("render_modes", ())
    env.close()
    if "rgb_array" not in modes:
        raise InputError(f"task {task!r} draws no pictures: it has no render mode 'rgb_array', so leave out --video")
    return f"{task}{'&' if '?' in task else '?'}render_mode=rgb_array"


def _drawing_env(task: str) -> Any:
    try:
        return load(drawn(task))
    except InputError:
        raise
    except Exception as error:  # importing MuJoCo for a renderer that is not there
        raise _no_renderer(task, str(error) or type(error).__name__) from error


def renderer(env: Any, task: str) -> Callable[[], Frame]:
    """What gives the picture of this moment; `InputError` in place of whatever a machine without a renderer raises."""

    def draw() -> Frame:
        try:
            if isinstance(env.unwrapped, DmcEnv):
                picture = env.unwrapped._env.physics.render(*SIZE, camera_id=0)
            else:
                picture = env.render()
        except Exception as error:  # of OpenGL, EGL, glfw: each has its own
            raise _no_renderer(task, str(error) or type(error).__name__) from error
        if picture is None:
            raise _no_renderer(task, "it returned no picture")
        return np.asarray(picture, dtype=np.uint8)

    return draw


def _no_renderer(task: str, why: str) -> InputError:
    return InputError(
        f"{task!r} cannot be drawn on this machine ({' '.join(why.split())[:120]}); set MUJOCO_GL to egl, osmesa or "
        "glfw, whichever is installed, or leave out --video"
    )


def check_film(path: Path) -> None:
    """Raise `InputError` for a name that is no film's, and for a film that nothing here can encode."""
    if path.suffix not in ENDINGS:
        raise InputError(f"--video {path}: give a name that ends in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise InputError(f"--video {path}: the folder {str(path.parent)!r} does not exist")
    needed = {".gif": "PIL", ".mp4": "imageio_ffmpeg"}[path.suffix]
    if importlib.util.find_spec(needed) is None:
        package = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg"}[needed]
        raise InputError(f"--video {path}: writing it needs {package} (pip install {package}), or give a .gif")


def write_film(path: Path, frames: list[Frame], rate: float) -> None:
    """Write ``frames [n] (H, W, 3)`` at `rate` a second."""
    if path.suffix == ".gif":
        from PIL import Image

        pictures = [Image.fromarray(frame) for frame in frames]
        # Viewers slow down what is faster than 50 pictures a second.
        every = max(1, round(rate / 50))
        pictures[0].save(
            path, save_all=True, append_images=pictures[every::every], duration=round(1000 * every / rate), loop=0
        )
        return
    film: Any = importlib.import_module("imageio").get_writer(path, fps=rate)
    with film:
        for frame in frames:
            film.append_data(frame)
