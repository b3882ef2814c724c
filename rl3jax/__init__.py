"""rl3jax: RL³ (reinforcement learning inside RL²) at the speed of the accelerator."""

from importlib.metadata import version

from rl3jax.cores import use_all_cores  # before gymnax is imported

# isort: split
from rl3jax import baselines, envs, networks, object_level, pretrained, statistics
from rl3jax.agent import Agent
from rl3jax.agent_files import load_agent, save_agent
from rl3jax.bellman import backward_induction
from rl3jax.checks import ConfigError
from rl3jax.config import Config, Hyperparams
from rl3jax.drawing import render_episode
from rl3jax.env_check import EnvFinding, check_env
from rl3jax.envs import (
    Binned,
    Environment,
    GymnaxTasks,
    TabularModel,
    TaskDistribution,
    Transition,
    list_envs,
    make_env,
)
from rl3jax.evaluation import Evaluation, evaluate_agent
from rl3jax.networks import list_networks
from rl3jax.object_level import list_learners
from rl3jax.pretrained import load_pretrained, pretrained_card, pretrained_names
from rl3jax.runs.fit import fit
from rl3jax.runs.folder import provenance
from rl3jax.seeding import held_out_key
from rl3jax.trainer import Trainer, TrainState, make_trainer
from rl3jax.value_augmented import ValueAugmented

__all__ = [
    "Agent",
    "Binned",
    "Config",
    "ConfigError",
    "EnvFinding",
    "Environment",
    "Evaluation",
    "GymnaxTasks",
    "Hyperparams",
    "TabularModel",
    "TaskDistribution",
    "TrainState",
    "Trainer",
    "Transition",
    "ValueAugmented",
    "backward_induction",
    "baselines",
    "check_env",
    "envs",
    "evaluate_agent",
    "fit",
    "held_out_key",
    "list_envs",
    "list_learners",
    "list_networks",
    "load_agent",
    "load_pretrained",
    "make_env",
    "make_trainer",
    "networks",
    "object_level",
    "pretrained",
    "pretrained_card",
    "pretrained_names",
    "provenance",
    "render_episode",
    "save_agent",
    "statistics",
    "use_all_cores",
]

__version__ = version("rl3jax")
