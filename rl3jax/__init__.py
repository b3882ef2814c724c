"""rl3jax: RL³ (reinforcement learning inside RL²) at the speed of the accelerator."""

from importlib.metadata import version

from rl3jax import object_level
from rl3jax.agent import Agent
from rl3jax.checkpoint import load_agent, save_agent
from rl3jax.checks import ConfigError
from rl3jax.config import Config, Hyperparams
from rl3jax.drawing import render_episode
from rl3jax.envs import Environment, TabularModel, Transition, make_env
from rl3jax.evaluation import Evaluation, evaluate_agent
from rl3jax.trainer import Trainer, TrainState, make_trainer

__all__ = [
    "Agent",
    "Config",
    "ConfigError",
    "Environment",
    "Evaluation",
    "Hyperparams",
    "TabularModel",
    "TrainState",
    "Trainer",
    "Transition",
    "evaluate_agent",
    "load_agent",
    "make_env",
    "make_trainer",
    "object_level",
    "render_episode",
    "save_agent",
]

__version__ = version("rl3jax")
