"""What a run is: one frozen dataclass, the options of its parts, and the values that decide both.

A field left at `None` is decided by the preset, then by the environment (`Config.resolve`). Sizes
and choices are static: they shape the compiled program. `Hyperparams` holds the rest as traced
numbers, so that a batch of them trains as one program.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import jax
import jax.numpy as jnp
from flax import struct

from rl3jax.checks import ConfigError, divisors, nearest_name, shown
from rl3jax.config.presets import COMMON, preset_horizon, preset_values
from rl3jax.envs import ENVIRONMENTS, env_class
from rl3jax.networks import NETWORKS
from rl3jax.object_level import ALGORITHMS, OBJECT_LEVEL
from rl3jax.policy import BELIEFS, HEADS, SHOWN
from rl3jax.ranges import (
    Count,
    NonNegative,
    OneOf,
    Positive,
    PositiveOrInfinite,
    Probability,
    Seed,
    Size,
    annotations,
    check_fields,
    check_value,
    unwrap,
)
from rl3jax.registry import RESERVED, ChosenPart, Option, owner_of

NOT_IN_JSON = ("inf", "-inf", "nan")
"""Numbers as a config's JSON spells them."""
Shown = Annotated[str, OneOf(tuple(SHOWN))]


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


@dataclass(frozen=True, init=False)
class Config:
    """Everything that decides a training run. Fields are flags of `python -m rl3jax.train`.

    Beside these fields a config takes, and has as attributes, the options of the parts that it
    names: those of the environment, of the object-level RL, of the network; for instance
    `Config(env="bandit", num_arms=10).num_arms`. An option that is not given is `None`.

    Attributes:
        options: the options that were given, with their values.

    Raises:
        ConfigError: on construction, if a part is unknown, a name is neither a field nor an option
            of a part, or a value is out of its range.
    """

    # --- what is trained ------------------------------------------------------------------------
    env: str = "bandit"
    """Environment: bandit, mdp, gridworld, gridnavi, pendulum, mountain-car, cartpole, acrobot,
    point-robot, repeat-previous, t-maze, or module:Class for one of your own."""
    variation: str | None = None
    """Task distribution to train on, for instance ood or 11x11. None: the environment's own."""
    algo: str = "rl3"
    """rl3 (the policy sees object-level value estimates), rl3-coarse (those of clusters of states)
    or rl2 (none)."""
    network: str | None = None
    """markov, gru, mingru, lstm, s5 or transformer. None: markov; repeat-previous s5, t-maze
    mingru; paper presets transformer."""
    width: Size | None = None
    """Units: layer width (markov, s5), units of the recurrent layers (gru, mingru, lstm), or the
    transformer's d. None: markov, mingru, lstm 128, gru 256, else 64; paper: markov 64."""
    object_level: str | None = None
    """Object-level RL of rl3: value_iteration, q_learning, local_model or linear_model. None:
    gridworld and gridnavi under rl3 local_model, states that are vectors linear_model, else
    value_iteration."""
    head: str | None = None
    """Of the policy: plain, planning (it starts as the object-level plan), state (it reads the
    observation beside the memory's features) or hyper (these make the weights of a network that
    reads it). None: under rl3 planning for gridworld and gridnavi with local_model and for physics
    with linear_model, else plain."""
    belief: str | None = None
    """About the task: none, or varibad (learned from all tasks, shown to the policy, and its only
    memory: network markov). None: none."""
    squash_actions: bool | None = None
    """Actions in a box: draw them from a Gaussian that tanh squashes onto the box, in place of one
    that is clipped to it. None: False."""
    preset: str | None = None
    """Hyper-parameters of the paper: paper-v4, or paper-rlc (also: paper). None: our own."""

    # --- sizes ----------------------------------------------------------------------------------
    n_tasks: Size | None = None
    """Tasks, hence meta-episodes, per iteration. None: bandit 4096, gridworld 512 (of
    other learners than local_model 128), gridnavi under rl3 with local_model and point-robot 512,
    t-maze and physics 256 (point-robot by linear_model 128, physics 64), else 1024."""
    horizon: Size | None = None
    """Interaction budget of a meta-episode, in env steps. None: the environment's own,
    often 100."""
    iterations: Size | None = None
    """Meta-iterations: rollout + PPO. None: bandit 60, gridworld 60 (of other
    learners than local_model 800), gridnavi 100, physics by linear_model 60 and
    point-robot 100, else 300."""
    minibatches: Size | None = None
    """Minibatches per epoch; divides n_tasks. None: the divisor nearest to
    bandit 64, physics and point-robot by linear_model 8, else 16."""
    minibatch_tasks: Size | None = None
    """Instead of minibatches: meta-episodes in each, the last may hold fewer. None: unset."""
    epochs: Size | None = None
    """Passes over an iteration's data. None: 4; paper 8."""

    # --- PPO ------------------------------------------------------------------------------------
    learning_rate: Positive | None = None
    """Adam's learning rate at the start. None: 2e-3; paper 3e-4."""
    final_learning_rate: NonNegative | None = None
    """Learning rate at the last iteration, approached linearly. None: 0; paper: same as
    learning_rate."""
    entropy: NonNegative | None = None
    """Coefficient of the entropy bonus, per nat. None: 0.01."""
    final_entropy: NonNegative | None = None
    """Entropy coefficient at the last iteration, approached linearly. None: 0; paper-v4:
    same as entropy."""
    discount: Probability | None = None
    """Discount of the meta-episode, per env step. None: 0.99; mdp, beyond 150 steps,
    1 - 1.5 / horizon; paper 0.99."""
    gae_lambda: Probability | None = None
    """Lambda of generalised advantage estimation. None: bandit and mdp 0.8,
    gridworld with local_model 0.9, repeat-previous 0.5, else 0.95; paper 0.3."""
    clip: Positive | None = None
    """PPO's clip of the probability ratio. None: 0.2."""
    kl_limit: PositiveOrInfinite | None = None
    """Stop the actor's epochs once KL(behaviour || current) reaches this, in nats; inf: never.
    None: inf; paper 0.01."""
    grad_clip: PositiveOrInfinite | None = None
    """Global gradient norm to clip to; inf: never. None: 0.5; paper inf."""
    weight_decay: NonNegative | None = None
    """L2 added to the critic's gradient. None: 0; paper 0.01."""
    adam_epsilon: Positive | None = None
    """Adam's epsilon. None: 1e-7."""

    # --- observation ----------------------------------------------------------------------------
    value_scale: Positive | None = None
    """Value estimates are shown divided by this, in reward units. None: bandit and gridnavi 1,
    mdp 10, gridworld 0.3, pendulum 100, other physics 50; paper 10."""
    squash_values: bool | None = None
    """Show an estimate x (so divided) as sign(x) ln(1 + |x|), and counts as ln(1 + N).
    None: True in bandit, mdp, gridworld and gridnavi, else False; paper False."""
    reward_scale: NonNegative | None = None
    """The previous reward is shown multiplied by this. None: 1; gridworld 0.05, pendulum 0.1,
    repeat-previous 50."""
    shown: Shown | None = None
    """What a policy of rl3 is shown: all; no-values or no-counts (all but these); or estimates
    (values and counts alone, as the paper's RL³-Markov has it). None: all."""
    critic_scale: Positive | None = None
    """The critic learns rewards multiplied by this; advantages are normalised anyway. None: 1;
    gridworld 0.05, pendulum 0.01, t-maze 0.3, repeat-previous 10, gridnavi, point-robot and other
    physics 0.1."""

    # --- the machine (changes no result but by rounding) -----------------------------------------
    devices: Size | None = None
    """Devices that share the tasks: on CPU its cores, else accelerators. None: as many as there
    are and divide the tasks of a minibatch."""
    rollout_chunk: Size | None = None
    """Tasks that a device plays at a time, to save memory. None: all of its share."""
    gradient_chunk: Size | None = None
    """Tasks of a minibatch that a device backpropagates through at a time, to save memory. None:
    all of its share."""
    memory_limit: Positive | None = None
    """Memory that a run may need of a device, in GiB; it is estimated beforehand. None: the
    device's own memory."""

    # --- the run --------------------------------------------------------------------------------
    seed: Seed = 0
    """Seed of every random number of the run."""
    out: str | None = None
    """Run folder. None: runs/{env}-{algo}-{network}-h{horizon}-s{seed} (of a sweep:
    runs/sweep-{env}-{algo}-{network}-h{horizon}), -2, -3, … if taken."""
    validate_every: Count | None = None
    """Iterations between scores on the validation tasks; 0: never. None: iterations / 10."""
    validation_tasks: Size | None = None
    """Tasks of a validation score. None: 100 of physics, gymnax environments and
    point-robot, else 1000."""
    checkpoint_every: Size | None = None
    """Iterations between checkpoints. None: iterations / 10."""
    draw_every: Count | None = None
    """Iterations between pictures of a meta-episode, into the run folder's drawings/; 0: never.
    None: 0."""
    options: tuple[tuple[str, Any], ...] = ()

    def __init__(self, **values: Any) -> None:
        fields = {field.name: field for field in dataclasses.fields(self)}
        options = dict(values.pop("options", ()))
        for name in values.keys() - fields.keys():
            options[name] = values.pop(name)
        for name, field in fields.items():
            value = values.get(name)
            object.__setattr__(self, name, field.default if value is None else value)
        check_fields(self)
        object.__setattr__(self, "options", tuple(self._checked(options)))
        self._check_minibatches()

    def _checked(self, options: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        """The options that are not `None`, in the order of the parts, with Python's numbers."""
        allowed = self.allowed_options
        for name in options.keys() - allowed.keys():
            raise ConfigError(self.why_not(name))
        for name, option in allowed.items():
            value = options.get(name)
            if value is not None:
                value = _from_json(value, option.annotation)
                yield name, check_value(name, value, option.annotation)

    def __getattr__(self, name: str) -> Any:
        """An option of one of the parts; `None` if it was not given."""
        if not name.startswith("_") and name in self.allowed_options:
            return dict(self.options).get(name)
        raise AttributeError(f"{type(self).__name__} has no {name}")

    @property
    def parts(self) -> tuple[ChosenPart, ...]:
        """Environment, object-level RL (but of rl2), algorithm, belief, head, and network.

        Raises:
            ConfigError: if one is unknown, or two have an option of the same name.
        """
        environment = env_class(self.env)
        if self.env not in ENVIRONMENTS:
            ENVIRONMENTS.check_clashes(self.env, environment)
        horizon = self.horizon or Resolved.horizon
        usual = COMMON if self.preset else self._defaults(horizon)

        def named(kind: str) -> str:
            return getattr(self, kind) or usual.get(kind, getattr(Resolved, kind))

        learner = OBJECT_LEVEL.chosen(named("object_level"))
        return (
            ENVIRONMENTS.chosen(self.env, environment),
            *((learner,) if self.algo != "rl2" else ()),
            ALGORITHMS.chosen(self.algo),
            BELIEFS.chosen(named("belief")),
            HEADS.chosen(named("head")),
            NETWORKS.chosen(named("network")),
        )

    @property
    def allowed_options(self) -> dict[str, Option]:
        """The options of all chosen parts, by name."""
        return {name: option for part in self.parts for name, option in part.options.items()}

    @property
    def names(self) -> set[str]:
        """All fields, and the options of all chosen parts."""
        fields = {field.name for field in dataclasses.fields(self)}
        return (fields | self.allowed_options.keys()) - {"options"}

    def why_not(self, name: str) -> str:
        """Why there is no field or option of that name, in one line."""
        written = name if name.isidentifier() else shown(name)
        owner = owner_of(name)
        if owner is not None:
            own = ", ".join(part.title for part in self.parts)
            return f"{written} is an option of {owner}; this run has {own}"
        return f"{written} is no field of Config; {nearest_name(name, self.names)}"

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

    @property
    def env_options(self) -> dict[str, Any]:
        """The environment's options that were given."""
        own = ENVIRONMENTS.options(env_class(self.env))
        return {name: value for name, value in self.options if name in own}

    def resolve(self) -> "Resolved":
        """The same run with every field filled that the preset or the environment decides.

        Raises:
            ConfigError: for an unknown preset, or one without a value for this horizon.
        """
        given = {**self._given_fields(), **dict(self.options)}
        environment = env_class(self.env)
        horizon = self.horizon or environment.training_horizon(self.variation)
        preset: dict[str, Any] = {}
        if self.preset is not None:
            horizon = self.horizon or preset_horizon(self.preset, self.env, horizon)
            preset = preset_values(self.preset, self.env, self.algo, horizon, given)
            preset = {name: value for name, value in preset.items() if name in self.names}
        usual = self._usual(horizon)
        if given.get("standard_errors"):
            usual.pop("sweeps_per_step", None)  # they are planned from zero
        learner = {
            name: option.default
            for part in self.parts
            if part.kind in ("object_level", "algo", "belief", "head")
            for name, option in part.options.items()
        }
        values = {"horizon": horizon, **learner, **usual, **preset, **given}
        values |= self._minibatches(given, values)
        iterations, network = values.get("iterations", Resolved.iterations), values.get("network")
        if self.preset is None and (network or Resolved.network) == "markov":
            values.setdefault("width", 128)
        for name in ("validate_every", "checkpoint_every"):
            values.setdefault(name, max(1, iterations // 10))
        return Resolved(**values)

    def _minibatches(self, given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        """Their number, or the tasks in each: as given, as the preset has it, or a divisor."""
        for name, other in (("minibatches", "minibatch_tasks"), ("minibatch_tasks", "minibatches")):
            if name in given:
                return {name: given[name], other: given.get(other)}
        if "minibatch_tasks" in values:
            return {"minibatches": None}
        n_tasks = values.get("n_tasks", Resolved.n_tasks)
        return {"minibatches": _nearest_divisor(n_tasks, values.get("minibatches", 16))}

    def _given_fields(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v for k, v in values.items() if v is not None and k != "options"}

    def _defaults(self, horizon: int) -> dict[str, Any]:
        """What the environment says of a training with this object-level RL."""
        object_level = self.object_level or (COMMON["object_level"] if self.preset else None)
        return env_class(self.env).defaults_with(object_level, self.algo, horizon)

    def _usual(self, horizon: int) -> dict[str, Any]:
        """What the environment says of a training, without options of parts that are not chosen.

        Raises:
            ConfigError: if it names what is neither a field nor an option of any part.
        """
        usual = self._defaults(horizon)
        allowed = self.names
        for name in usual.keys() - allowed:
            if owner_of(name) is None:
                raise ConfigError(f"training_defaults of env {self.env}: {self.why_not(name)}")
        return {name: value for name, value in usual.items() if name in allowed}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and flat, with the options of all parts; infinities become "inf"."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        options = dict(values.pop("options"))
        values |= {name: options.get(name) for name in self.allowed_options}
        return {name: _to_json(value) for name, value in values.items()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Config":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: if a name is unknown or a value is not allowed.
        """
        floats = {name for name, hint in annotations(Config).items() if unwrap(hint)[0] is float}
        infinite = {k: math.inf for k, v in values.items() if v == "inf" and k in floats}
        return Config(**{**values, **infinite})


@dataclass(frozen=True, init=False)
class Resolved(Config):
    """A config in which every number that training needs is set.

    The values here are those of a run for which neither the preset nor the environment has others.
    """

    network: str = "markov"
    object_level: str = "value_iteration"
    head: str = "plain"
    belief: str = "none"
    squash_actions: bool = False
    n_tasks: Size = 1024
    horizon: Size = 100
    iterations: Size = 300
    epochs: Size = 4
    learning_rate: Positive = 2e-3
    final_learning_rate: NonNegative = 0.0
    entropy: NonNegative = 0.01
    final_entropy: NonNegative = 0.0
    discount: Probability = 0.99
    gae_lambda: Probability = 0.95
    clip: Positive = 0.2
    kl_limit: PositiveOrInfinite = math.inf
    grad_clip: PositiveOrInfinite = 0.5
    weight_decay: NonNegative = 0.0
    adam_epsilon: Positive = 1e-7
    value_scale: Positive = 10.0
    squash_values: bool = False
    reward_scale: NonNegative = 1.0
    shown: Shown = "all"
    critic_scale: Positive = 1.0
    validate_every: Count = 0
    validation_tasks: Size = 1000
    checkpoint_every: Size = 1
    draw_every: Count = 0

    @property
    def tasks_per_minibatch(self) -> int:
        """Meta-episodes in a full minibatch."""
        if self.minibatch_tasks is not None:
            return min(self.minibatch_tasks, self.n_tasks)
        return self.n_tasks // (self.minibatches or 1)

    def hyperparams(self) -> Hyperparams:
        """The traced numbers, as scalars of the default float dtype."""
        names = [field.name for field in dataclasses.fields(Hyperparams)]
        return Hyperparams(**{n: jnp.asarray(getattr(self, n), dtype=float) for n in names})


RESERVED.update(field.name for field in dataclasses.fields(Config))


def _to_json(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, list | tuple):
        return [_to_json(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any, annotation: Any) -> Any:
    """Nor tuples."""
    if isinstance(value, list | tuple):
        kinds = [kind for kind in get_args(annotation) if kind is not Ellipsis]
        return tuple(_from_json(one, kinds[0] if kinds else None) for one in value)
    is_number = isinstance(value, str) and value in NOT_IN_JSON
    return float(value) if is_number and unwrap(annotation)[0] is float else value


def _nearest_divisor(n: int, wanted: int) -> int:
    """The divisor of `n` nearest to `wanted` (the larger of two equally near)."""
    return min(divisors(n), key=lambda d: (abs(d - wanted), -d))
