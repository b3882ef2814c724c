"""What a run is: one flat, frozen dataclass, and the values that presets and domains give it.

A field left at `None` is decided by the preset, then by the domain (`Config.resolve`). Sizes and
choices are static: they shape the compiled program. `Hyperparams` holds the rest as traced numbers,
so that a batch of them trains as one program.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from rl3jax.checks import (
    LARGEST_NUMBER,
    LARGEST_SIZE,
    ConfigError,
    check_at_most,
    check_choice,
    divisors,
    is_finite,
    nearest_name,
    shown,
)


@struct.dataclass
class Hyperparams:
    """The traced numbers of a run: scalars, or batched by a vmap over `Trainer.train`."""

    learning_rate: jax.Array
    final_learning_rate: jax.Array
    entropy: jax.Array
    final_entropy: jax.Array
    discount: jax.Array
    gae_lambda: jax.Array
    clip: jax.Array
    weight_decay: jax.Array
    grad_clip: jax.Array
    iterations: jax.Array


@dataclass(frozen=True)
class Config:
    """Everything that decides a training run. Fields are flags of `python -m rl3jax.train`.

    Raises:
        ConfigError: on construction, if a value is out of its range.
    """

    # --- what is trained ------------------------------------------------------------------------
    env: str = "bandit"
    """Environment: bandit, mdp, gridworld, or module:Class for one of your own."""
    variation: str | None = None
    """Task distribution to train on, for instance ood or 11x11. None: the environment's own."""
    algo: str = "rl3"
    """rl3 (the policy sees object-level value estimates), rl3-coarse (those of clusters of states)
    or rl2 (none)."""
    network: str | None = None
    """markov, gru or transformer. None: markov; paper presets: transformer."""
    width: int | None = None
    """Units: layer width (markov), GRU units, or the transformer's d. None: 128, 256, 64; paper:
    markov 64."""
    object_level: str = "value_iteration"
    """Object-level RL of rl3: value_iteration or q_learning."""
    preset: str | None = None
    """Hyper-parameters of the paper: paper-v4, or paper-rlc (also: paper). None: our own."""

    # --- sizes ----------------------------------------------------------------------------------
    n_tasks: int | None = None
    """Tasks, hence meta-episodes, per iteration. None: bandit 4096, else 1024."""
    horizon: int | None = None
    """Interaction budget of a meta-episode, in env steps. None: 100."""
    iterations: int | None = None
    """Meta-iterations: rollout + PPO. None: bandit 60, gridworld 800, else 300."""
    minibatches: int | None = None
    """Minibatches per epoch; divides n_tasks. None: the divisor nearest to
    bandit 64, else 16."""
    minibatch_tasks: int | None = None
    """Instead of minibatches: meta-episodes in each, the last may hold fewer. None: unset."""
    epochs: int | None = None
    """Passes over an iteration's data. None: 4; paper 8."""

    # --- PPO ------------------------------------------------------------------------------------
    learning_rate: float | None = None
    """Adam's learning rate at the start. None: 2e-3; paper 3e-4."""
    final_learning_rate: float | None = None
    """Learning rate at the last iteration, approached linearly. None: 0; paper: same as
    learning_rate."""
    entropy: float | None = None
    """Coefficient of the entropy bonus, per nat. None: 0.01."""
    final_entropy: float | None = None
    """Entropy coefficient at the last iteration, approached linearly. None: 0; paper-v4:
    same as entropy."""
    discount: float | None = None
    """Discount of the meta-episode, per env step. None: 0.99; mdp, beyond 150 steps,
    1 - 1.5 / horizon; paper 0.99."""
    gae_lambda: float | None = None
    """Lambda of generalised advantage estimation. None: bandit and mdp 0.8,
    else 0.95; paper 0.3."""
    clip: float | None = None
    """PPO's clip of the probability ratio. None: 0.2."""
    kl_limit: float | None = None
    """Stop the actor's epochs once KL(behaviour || current) reaches this, in nats; inf: never.
    None: inf; paper 0.01."""
    grad_clip: float | None = None
    """Global gradient norm to clip to; inf: never. None: 0.5; paper inf."""
    weight_decay: float | None = None
    """L2 added to the critic's gradient. None: 0; paper 0.01."""
    adam_epsilon: float | None = None
    """Adam's epsilon. None: 1e-7."""

    # --- object-level RL ------------------------------------------------------------------------
    planning_discount: float | None = None
    """Discount of object-level RL, per env step. None: 0.95; paper-v4: 1."""
    smoothing: float | None = None
    """Pseudo-count added to every transition of the estimated model. None: 0.1; paper-v4: 0."""
    max_sweeps: int | None = None
    """Value-iteration sweeps per env step at most. None: the environment's task horizon."""
    tolerance: float | None = None
    """Value iteration ends below this change of q, in reward units. None: 0.01."""
    known_states: str | None = None
    """States in the estimated model: all or visited. None: all; paper-v4: visited."""
    warm_start: bool | None = None
    """Sweeps go on from the last q while the known states are the same. None: False."""
    sweeps_per_step: int | None = None
    """Instead of planning to the tolerance: sweeps per env step, always going on from the last
    q; 0: plan to the tolerance. None: 0; gridworld 4, with rl3-coarse 2."""
    successor_slots: int | None = None
    """Next states that the model can hold of a state and action. None: what the environment
    needs."""
    standard_errors: bool | None = None
    """Also estimate and show standard errors of the values. None: False."""
    optimism: float | None = None
    """Also plan and show optimistic values, in which a state and action never tried are worth
    this, in reward units. None: off."""
    mean_rewards: bool | None = None
    """Also show the mean rewards of the actions in the current state. None: True for rl3 with
    value_iteration in mdp, else False; paper False."""
    cluster_size: int = 2
    """States in a cluster of rl3-coarse at most."""
    cluster_radius: float = 1.2
    """A state joins a cluster of rl3-coarse if nearer than this, in the environment's units."""
    step_size: float | None = None
    """Step size of q_learning. None: 1/N(s, a)."""
    initial_value: float | None = None
    """Q of q_learning before any data, in reward units. None: 0."""

    # --- observation ----------------------------------------------------------------------------
    value_scale: float | None = None
    """Value estimates are shown divided by this, in reward units. None: bandit 1, mdp 10,
    gridworld 0.3; paper 10."""
    squash_values: bool | None = None
    """Show an estimate x (so divided) as sign(x) ln(1 + |x|), and counts as ln(1 + N).
    None: True in bandit, mdp and gridworld, else False; paper False."""
    reward_scale: float | None = None
    """The previous reward is shown multiplied by this. None: 1; gridworld 0.05."""
    shown: str | None = None
    """What a policy of rl3 is shown: all; no-values or no-counts (all but these); or estimates
    (values and counts alone, as the paper's RL³-Markov has it). None: all."""
    critic_scale: float | None = None
    """The critic learns rewards multiplied by this; advantages are normalised anyway. None: 1;
    gridworld 0.05."""

    # --- environment options (each only where the environment has it) --------------------------
    num_arms: int | None = None
    """bandit: arms. None: 5."""
    num_states: int | None = None
    """mdp: states. None: 10."""
    num_actions: int | None = None
    """mdp: actions. None: 5."""
    task_horizon: int | None = None
    """mdp: steps of an object-level episode. None: 10."""
    side: int | None = None
    """gridworld: rows, and columns. This and what follows, None: the variation's."""
    num_obstacle_sets: int | None = None
    """gridworld: segments of obstacles. None: the variation's."""
    obstacle_set_len: int | None = None
    """gridworld: tiles in a segment of obstacles. None: the variation's."""
    num_water_sets: int | None = None
    """gridworld: segments of water. None: the variation's."""
    water_set_length: int | None = None
    """gridworld: tiles in a segment of water. None: the variation's."""
    num_fatal: int | None = None
    """gridworld: fatal tiles. None: the variation's."""
    min_goal_manhat: int | None = None
    """gridworld: least Manhattan distance from start to goal. None: the variation's."""
    slip: float | None = None
    """gridworld: probability that a move goes astray. None: the variation's."""
    step_reward: float | None = None
    """gridworld: reward of a step onto a normal tile. None: -1."""
    water_reward: float | None = None
    """gridworld: reward of a step onto water. None: -2."""
    warning_reward: float | None = None
    """gridworld: reward of a step onto a warning. None: -10."""
    fatal_reward: float | None = None
    """gridworld: reward of a step onto a fatal tile. None: -100."""
    goal_reward: float | None = None
    """gridworld: reward of a step onto the goal. None: 100."""
    min_optimal_return: float | None = None
    """gridworld: a grid is drawn anew if its optimal return is less. None: 50."""
    max_optimal_return: float | None = None
    """gridworld: a grid is drawn anew if its optimal return is more. None: 100."""

    # --- the machine (changes no result but by rounding) -----------------------------------------
    devices: int | None = None
    """Devices that share the tasks: on CPU its cores, else accelerators. None: as many as there
    are and divide the tasks of a minibatch."""
    rollout_chunk: int | None = None
    """Tasks that a device plays at a time, to save memory. None: all of its share."""
    gradient_chunk: int | None = None
    """Tasks of a minibatch that a device backpropagates through at a time, to save memory. None:
    all of its share."""
    memory_limit: float | None = None
    """Memory that a run may need of a device, in GiB; it is estimated beforehand. None: the
    device's own memory."""

    # --- the run --------------------------------------------------------------------------------
    seed: int = 0
    """Seed of every random number of the run."""
    out: str | None = None
    """Run folder. None: runs/{env}-{algo}-{network}-h{horizon}-s{seed} (of a sweep:
    runs/sweep-{env}-{algo}-{network}-h{horizon}), -2, -3, … if taken."""
    validate_every: int | None = None
    """Iterations between scores on the validation tasks; 0: never. None: iterations / 10."""
    validation_tasks: int = 1000
    """Tasks of a validation score."""
    checkpoint_every: int | None = None
    """Iterations between checkpoints. None: iterations / 10."""
    draw_every: int | None = None
    """Iterations between pictures of a meta-episode, into the run folder's drawings/; 0: never.
    None: 0."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                _check_type(field, value)
                _check_range(field.name, value)
        self._check_minibatches()

    def _check_minibatches(self) -> None:
        if self.minibatches is None or self.n_tasks is None:
            return
        if self.minibatch_tasks is not None:
            raise ConfigError("minibatches and minibatch_tasks exclude each other; give one")
        if self.n_tasks % self.minibatches:
            count = _nearest_divisor(self.n_tasks, self.minibatches)
            tasks = max(1, round(self.n_tasks / self.minibatches)) * self.minibatches
            raise ConfigError(
                f"minibatches must divide n_tasks; {self.minibatches} does not divide "
                f"{self.n_tasks}. Nearest that work: minibatches {count}, or n_tasks {tasks}"
            )

    def resolve(self) -> "Config":
        """The same run with every field filled that the preset or the domain decides.

        Raises:
            ConfigError: for an unknown preset, or one without a value for this horizon.
        """
        domain = {
            **DOMAIN_DEFAULTS.get(self.env, {}),
            **ALGORITHM_DEFAULTS.get((self.env, self.algo), {}),
        }
        if self.standard_errors:  # which are planned from zero
            domain["sweeps_per_step"] = 0
        horizon = self.horizon or _default_horizon(self)
        if self.env == "mdp":
            domain |= self._mdp_defaults(horizon)
        filled = dataclasses.replace(self, horizon=horizon)
        for values in (_preset_values(filled), domain, COMMON_DEFAULTS):
            filled = filled._fill(values)
        return filled._fill_derived()

    def _mdp_defaults(self, horizon: int) -> dict[str, Any]:
        """A longer sight for longer budgets, and what tells of an episode's last steps."""
        plans = self.algo == "rl3" and self.object_level == "value_iteration"
        return {"discount": max(0.99, 1 - 1.5 / horizon), "mean_rewards": plans}

    def _fill(self, values: dict[str, Any]) -> "Config":
        """`values` for the fields that are still `None`."""
        if self.minibatches is not None or self.minibatch_tasks is not None:
            values = {k: v for k, v in values.items() if not k.startswith("minibatch")}
        missing = {k: v for k, v in values.items() if getattr(self, k) is None}
        if "minibatches" in missing:
            n_tasks = self.n_tasks or missing["n_tasks"]
            missing["minibatches"] = _nearest_divisor(n_tasks, missing["minibatches"])
        return dataclasses.replace(self, **missing)

    def _fill_derived(self) -> "Config":
        """Fields whose default follows from other fields."""
        iterations = self.iterations or 1
        is_wide = self.network == "markov" and self.preset is None
        return self._fill(
            {
                "width": 128 if is_wide else None,
                "validate_every": max(1, iterations // 10),
                "checkpoint_every": max(1, iterations // 10),
            }
        )

    @property
    def tasks_per_minibatch(self) -> int:
        """Meta-episodes in a full minibatch of a resolved config."""
        if self.minibatch_tasks is not None:
            return min(self.minibatch_tasks, self.n_tasks)
        return self.n_tasks // self.minibatches

    @property
    def env_options(self) -> dict[str, Any]:
        """The environment's options that were given."""
        options = {name: getattr(self, name) for name in ENV_OPTIONS}
        return {name: value for name, value in options.items() if value is not None}

    def hyperparams(self) -> Hyperparams:
        """The traced numbers of a resolved config, as scalars of the default float dtype."""
        names = [field.name for field in dataclasses.fields(Hyperparams)]
        return Hyperparams(**{n: jnp.asarray(getattr(self, n), dtype=float) for n in names})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; infinities become the string "inf"."""
        values = dataclasses.asdict(self)
        return {k: "inf" if v == math.inf else v for k, v in values.items()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Config":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: if a name is unknown or a value is not allowed.
        """
        names = {field.name for field in dataclasses.fields(Config)}
        for name in values.keys() - names:
            written = name if name.isidentifier() else shown(name)
            raise ConfigError(f"{written} is no field of Config; {nearest_name(name, names)}")
        infinite = {k: math.inf for k, v in values.items() if v == "inf" and k in _NUMBERS}
        return Config(**{**values, **infinite})


_INTEGERS = {f.name for f in dataclasses.fields(Config) if "int" in str(f.type)}
_NUMBERS = {f.name for f in dataclasses.fields(Config) if "float" in str(f.type)}

ENV_OPTIONS = (
    "num_arms", "num_states", "num_actions", "task_horizon",
    "side", "num_obstacle_sets", "obstacle_set_len", "num_water_sets", "water_set_length",
    "num_fatal", "min_goal_manhat", "slip", "step_reward", "water_reward", "warning_reward",
    "fatal_reward", "goal_reward", "min_optimal_return", "max_optimal_return",
)  # fmt: skip

_SIZES = {
    "width", "n_tasks", "horizon", "iterations", "minibatches", "minibatch_tasks", "epochs",
    "max_sweeps", "validation_tasks", "checkpoint_every", "successor_slots", "cluster_size",
    "devices", "rollout_chunk", "gradient_chunk",
    "num_arms", "num_states", "num_actions", "task_horizon", "side", "obstacle_set_len",
    "water_set_length", "min_goal_manhat",
}  # fmt: skip
_POSITIVE = {
    "learning_rate", "clip", "kl_limit", "grad_clip", "adam_epsilon", "value_scale",
    "critic_scale", "cluster_radius", "memory_limit",
}  # fmt: skip
_NON_NEGATIVE = {
    "final_learning_rate", "entropy", "final_entropy", "weight_decay", "smoothing", "tolerance",
    "reward_scale", "seed", "validate_every", "draw_every", "sweeps_per_step",
    "num_obstacle_sets", "num_water_sets", "num_fatal",
}  # fmt: skip
_UNIT = {"discount", "gae_lambda", "planning_discount", "slip"}
_CHOICES = {"known_states": ("all", "visited")}
_MAY_BE_INFINITE = {"kl_limit", "grad_clip"}
_LARGEST_SEED = 2**32 - 1  # JAX takes the rest of a division: beyond, seeds would repeat
_SMALLEST_NUMBER = 1.1754943508222875e-38  # of a float32 that is not rounded to 0


def _check_type(field: dataclasses.Field[Any], value: Any) -> None:
    annotation = str(field.type)
    is_bool = isinstance(value, bool)
    if "int" in annotation and (is_bool or not isinstance(value, int)):
        raise ConfigError(f"{field.name} must be a whole number, not {shown(value)}")
    if "float" in annotation and (is_bool or not isinstance(value, int | float)):
        raise ConfigError(f"{field.name} must be a number, not {shown(value)}")
    if "str" in annotation and not isinstance(value, str):
        raise ConfigError(f"{field.name} must be a string, not {shown(value)}")
    if "bool" in annotation and not is_bool:
        raise ConfigError(f"{field.name} must be True or False, not {shown(value)}")


def _check_range(name: str, value: Any) -> None:
    if isinstance(value, str):
        _check_text(name, value)
    else:
        _check_finite(name, value)
        _check_sign(name, value)


def _check_text(name: str, value: str) -> None:
    if not value.isprintable() or not value:
        raise ConfigError(f"{name} must be text of printable characters, not {shown(value)}")
    if name in _CHOICES:
        check_choice(name, value, _CHOICES[name])


def _check_finite(name: str, value: float) -> None:
    is_infinite = value == math.inf and name in _MAY_BE_INFINITE
    if name in _INTEGERS:
        check_at_most(name, int(value), _LARGEST_SEED if name == "seed" else LARGEST_SIZE)
    elif not is_finite(value) and not is_infinite:
        large = isinstance(value, int) or math.isfinite(value)
        limit = f"within ±{LARGEST_NUMBER:.2g}" if large else "finite"
        raise ConfigError(f"{name} must be {limit}, not {shown(value)}")


def _check_sign(name: str, value: float) -> None:
    if name in _SIZES and value < 1:
        raise ConfigError(f"{name} must be at least 1, not {shown(value)}")
    if name in _POSITIVE and not value > 0:
        raise ConfigError(f"{name} must be larger than 0, not {shown(value)}")
    if name in _POSITIVE and value < _SMALLEST_NUMBER:
        raise ConfigError(f"{name} must be at least {_SMALLEST_NUMBER:.2g}, not {shown(value)}")
    if name in _NON_NEGATIVE and value < 0:
        raise ConfigError(f"{name} must not be negative, not {shown(value)}")
    if name in _UNIT and not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie in [0, 1], not {shown(value)}")
    if name == "step_size" and not 0 < value <= 1:
        raise ConfigError(f"step_size must lie in (0, 1], not {shown(value)}")


def _nearest_divisor(n: int, wanted: int) -> int:
    """The divisor of `n` nearest to `wanted` (the larger of two equally near)."""
    return min(divisors(n), key=lambda d: (abs(d - wanted), -d))


# --- our defaults -------------------------------------------------------------------------------

COMMON_DEFAULTS: dict[str, Any] = {
    "network": "markov",
    "n_tasks": 1024,
    "iterations": 300,
    "minibatches": 16,
    "epochs": 4,
    "learning_rate": 2e-3,
    "final_learning_rate": 0.0,
    "entropy": 0.01,
    "final_entropy": 0.0,
    "discount": 0.99,
    "gae_lambda": 0.95,
    "clip": 0.2,
    "kl_limit": math.inf,
    "grad_clip": 0.5,
    "weight_decay": 0.0,
    "adam_epsilon": 1e-7,
    "planning_discount": 0.95,
    "smoothing": 0.1,
    "tolerance": 0.01,
    "known_states": "all",
    "warm_start": False,
    "sweeps_per_step": 0,
    "standard_errors": False,
    "mean_rewards": False,
    "initial_value": 0.0,
    "value_scale": 10.0,
    "squash_values": False,
    "reward_scale": 1.0,
    "critic_scale": 1.0,
    "shown": "all",
    "draw_every": 0,
}

DOMAIN_DEFAULTS: dict[str, dict[str, Any]] = {
    "bandit": {
        "n_tasks": 4096,
        "iterations": 60,
        "minibatches": 64,
        "gae_lambda": 0.8,
        "value_scale": 1.0,
        "squash_values": True,
    },
    "mdp": {
        "gae_lambda": 0.8,
        "squash_values": True,
    },
    "gridworld": {
        "n_tasks": 128,
        "iterations": 800,
        "minibatches": 8,
        "learning_rate": 1e-3,
        "entropy": 0.03,
        "planning_discount": 0.97,
        "smoothing": 0.0,
        "tolerance": 0.1,
        "known_states": "visited",
        "warm_start": True,
        "sweeps_per_step": 4,
        "value_scale": 0.3,
        "squash_values": True,
        "reward_scale": 0.05,
        "critic_scale": 0.05,
    },
}


ALGORITHM_DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("gridworld", "rl3-coarse"): {"sweeps_per_step": 2},  # a sweep carries values two tiles
}


def _default_horizon(config: Config) -> int:
    """The paper's interaction budget for the domain; its shortest, where it has several."""
    if config.env == "gridworld":
        return 250 if config.variation == "11x11" else 350
    return min(_paper_domain(config).iterations) if config.preset else 100


# --- the paper's hyper-parameters ---------------------------------------------------------------


@dataclass(frozen=True)
class _PaperDomain:
    """One domain's row of a paper's hyper-parameter table; steps are env steps."""

    iterations: dict[int, int | dict[str, int]]  # by horizon, and by algorithm where they differ
    steps_per_iteration: dict[int, int] | int
    minibatch_steps: dict[int, int] | int
    entropy: dict[int, float] | float
    final_entropy: float | None = None
    learning_rate: float = 3e-4
    estimates: dict[str, Any] = dataclasses.field(default_factory=dict)


_PAPER_COMMON: dict[str, Any] = {
    "network": "transformer",
    "reward_scale": 1.0,
    "critic_scale": 1.0,
    "sweeps_per_step": 0,
    "squash_values": False,
    "mean_rewards": False,
    "adam_epsilon": 1e-7,
    "weight_decay": 1e-2,
    "epochs": 8,
    "kl_limit": 0.01,
    "clip": 0.2,
    "gae_lambda": 0.3,
    "discount": 0.99,
    "grad_clip": math.inf,
}

_PAPER_V4_PLANNING: dict[str, Any] = {
    "planning_discount": 1.0,
    "smoothing": 0.0,
    "tolerance": 0.01,
    "known_states": "visited",
}

_RLC_MDP_ITERATIONS: dict[int, int | dict[str, int]] = {
    128: 8_000,
    256: {"rl2": 8_000, "rl3": 6_000},
    512: {"rl2": 8_000, "rl3": 5_000},
    1024: {"rl2": 12_000, "rl3": 4_000},
    1500: {"rl2": 15_000, "rl3": 5_000},
    2048: {"rl2": 15_000, "rl3": 5_000},
}

_PAPER_V4 = {
    "bandit": _PaperDomain({100: 3_000, 500: 6_000}, 32_000, 3_200, {100: 0.001, 500: 0.01}),
    "mdp": _PaperDomain({100: 10_000, 500: 24_000}, 32_000, 3_200, 0.01),
    "gridworld": _PaperDomain(
        {250: 20_000, 350: 12_000},
        32_000,
        3_200,
        0.04,
        learning_rate=2e-4,
        estimates={"warm_start": True, "value_scale": 10.0},
    ),
}

_PAPER_RLC = {
    "bandit": _PaperDomain({512: 5_000}, 32_768, 4_096, 0.1, final_entropy=0.0),
    "mdp": _PaperDomain(_RLC_MDP_ITERATIONS, 32_768, 4_096, 0.1, final_entropy=0.0),
    "gridworld": _PaperDomain(
        {250: 20_000, 350: 20_000},
        {250: 32_000, 350: 33_600},
        {250: 4_000, 350: 4_200},
        0.04,
        learning_rate=2e-4,
        estimates={
            "planning_discount": 0.95,
            "smoothing": 0.01,
            "tolerance": 0.1,
            "known_states": "visited",
            "warm_start": True,
            "value_scale": 10.0,
        },
    ),
}

PRESETS = {"paper-v4": _PAPER_V4, "paper-rlc": _PAPER_RLC, "paper": _PAPER_RLC}


def _paper_domain(config: Config) -> _PaperDomain:
    assert config.preset is not None
    check_choice("preset", config.preset, PRESETS)
    domains = PRESETS[config.preset]
    if config.env not in domains:
        raise ConfigError(
            f"preset {config.preset} has no values for env {shown(config.env)}; it has "
            f"{', '.join(domains)}"
        )
    return domains[config.env]


def _preset_values(config: Config) -> dict[str, Any]:
    """What the preset says of a config whose horizon is set; nothing without a preset."""
    if config.preset is None:
        return {}
    paper = _paper_domain(config)
    horizon = config.horizon
    assert horizon is not None
    if horizon not in paper.iterations and config.iterations is None:
        raise ConfigError(
            f"preset {config.preset} trains {config.env} at horizon "
            f"{', '.join(map(str, paper.iterations))}, not {horizon}; give iterations as well"
        )
    iterations = paper.iterations.get(horizon, config.iterations)
    if isinstance(iterations, dict):
        iterations = iterations.get(config.algo, iterations["rl3"])
    entropy = _at_horizon(paper.entropy, horizon)
    final_entropy = paper.final_entropy
    if final_entropy is None:
        final_entropy = entropy if config.entropy is None else config.entropy
    return {
        **_PAPER_COMMON,
        **paper.estimates,
        **(_PAPER_V4_PLANNING if config.preset == "paper-v4" else {}),
        "n_tasks": max(1, int(_at_horizon(paper.steps_per_iteration, horizon)) // horizon),
        "minibatch_tasks": max(1, round(_at_horizon(paper.minibatch_steps, horizon) / horizon)),
        "iterations": iterations,
        "learning_rate": paper.learning_rate,
        "final_learning_rate": config.learning_rate or paper.learning_rate,
        "entropy": entropy,
        "final_entropy": final_entropy,
    }


def _at_horizon(values: dict[int, Any] | float, horizon: int) -> float:
    """A value that may depend on the horizon; elsewhere that of the longest one."""
    return values.get(horizon, values[max(values)]) if isinstance(values, dict) else values
