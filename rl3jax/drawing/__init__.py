"""Pictures of meta-episodes: arrays from code, and GIF, PNG and MP4 files."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray, UInt8

from rl3jax.baselines import AgentOrMaker
from rl3jax.checks import ConfigError, check_size
from rl3jax.drawing import files
from rl3jax.drawing.episode import (
    MetaEpisode,
    evaluation_task,
    key_moments,
    record_episode,
    sample_task,
)
from rl3jax.drawing.pictures import (
    DPI,
    VIEWS,
    film_moments,
    film_seconds,
    frames,
    panels,
    view_type,
)
from rl3jax.envs import TaskDistribution
from rl3jax.files import replacing

__all__ = [
    "ENDINGS",
    "VIEWS",
    "MetaEpisode",
    "algorithm_name",
    "check_path",
    "evaluation_task",
    "film_moments",
    "frames",
    "key_moments",
    "panels",
    "record_episode",
    "record_episodes",
    "render_episode",
    "save_picture",
    "view_type",
]

PANELS_DPI = 130
ENDINGS = {
    ".gif": "a film",
    ".mp4": "a film, with rl3jax[video]",
    ".png": "key moments as panels",
}
"""What files can be written, by the end of their names."""


def render_episode(
    agents: AgentOrMaker | Mapping[str, AgentOrMaker],
    env: TaskDistribution,
    horizon: int,
    key: PRNGKeyArray,
    task: Any = None,
    every: int = 1,
    dpi: int = DPI,
) -> UInt8[np.ndarray, "frames height width 3"]:
    """A meta-episode as pictures: one before the first step, and one after each.

    Args:
        agents: an agent, a function from a task to the agent that knows it, or several of either
            by name, drawn side by side in the same task with the same chance.
        env: a bandit, random MDP, gridworld, gridnavi, pendulum, mountain car, cart pole, acrobot
            or point robot, or derived from one.
        horizon: env steps of the meta-episode.
        key: decides all chance, and the task unless that is given; consumed.
        task: the task; `None` draws one.
        every: draw each `every`-th step, and where an episode ends.
        dpi: pixels per inch; a panel is about 5 (gridworld) to 9 inches wide.

    Raises:
        ConfigError: if there are no pictures of `env`, or `horizon` or `every` is no size. The
            message is one line.
    """
    view_type(env)
    check_size("horizon", horizon)
    check_size("every", every)
    if task is None:
        key_task, key = jax.random.split(key)
        task = sample_task(env, key_task)
    named = agents if isinstance(agents, Mapping) else {"": agents}
    episodes = record_episodes(named, env, task, horizon, key)
    return np.stack(list(frames(episodes, film_moments(episodes, every), dpi)))


def record_episodes(
    agents: Mapping[str, AgentOrMaker],
    env: TaskDistribution,
    task: Any,
    horizon: int,
    key: PRNGKeyArray,
) -> dict[str, MetaEpisode]:
    """`record_episode` of each agent, with the same key, which is consumed."""
    return {
        name: record_episode(agent, env, task, horizon, jax.random.clone(key))
        for name, agent in agents.items()
    }


def algorithm_name(algo: str) -> str:
    """What pictures call an algorithm of the config."""
    return algo.replace("rl2", "RL²").replace("rl3", "RL³")


# --- files --------------------------------------------------------------------------------------


def check_path(path: Path) -> None:
    """Raises ConfigError unless a picture can be written to `path`, as far as is known before."""
    if path.suffix.lower() not in ENDINGS:
        kinds = ", ".join(f"{ending} ({kind})" for ending, kind in ENDINGS.items())
        raise ConfigError(f"{path} must end in one of {kinds}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for {path.name}")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"the folder {path.parent} cannot be written to")
    if path.suffix.lower() == ".mp4":
        files.video_package()


def save_picture(
    path: Path,
    episodes: Mapping[str, MetaEpisode],
    fps: float = 8.0,
    every: int = 1,
    dpi: int | None = None,
) -> None:
    """Writes a film or key moments to `path`, by its ending, whole or not at all.

    Args:
        path: see `check_path`.
        episodes: of one task, by the agents' names.
        fps: steps a second; films pause where episodes end.
        every: films show each `every`-th step, and where an episode ends.
        dpi: pixels per inch; `None`: 110 of films, 130 of panels.
    """
    ending = path.suffix.lower()
    dpi = dpi or (PANELS_DPI if ending == ".png" else DPI)
    data = _encode(ending, episodes, fps, every, dpi)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _encode(
    ending: str, episodes: Mapping[str, MetaEpisode], fps: float, every: int, dpi: int
) -> bytes:
    if ending == ".png":
        return files.png(panels(episodes, dpi))
    moments = film_moments(episodes, every)
    seconds = film_seconds(episodes, moments, fps)
    if ending == ".mp4":
        return files.mp4(frames(episodes, moments, dpi), seconds, fps)
    spread = np.linspace(0, len(moments) - 1, num=5).astype(int)
    samples = list(frames(episodes, [moments[i] for i in spread], dpi))
    return files.gif(frames(episodes, moments, dpi), seconds, samples)
