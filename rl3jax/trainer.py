"""Meta-training: the paper's outer loop as pure functions (RL³, algorithm 1).

trainer = make_trainer(config)
state = trainer.init(key)
state, metrics = trainer.update(state)              # one meta-iteration, one compiled program
states, history = jax.vmap(trainer.train)(keys)     # whole runs, a batch of seeds
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax import devices
from rl3jax.agent import PolicyAgent, layout_of
from rl3jax.checks import ConfigError, largest_divisor, one_line, shown
from rl3jax.config import Config, Hyperparams, Resolved
from rl3jax.devices import Devices
from rl3jax.envs import TaskDistribution, check_usable, describe_env, make_env
from rl3jax.finite import NonFinite, non_finite
from rl3jax.learning import belief as beliefs
from rl3jax.learning import ppo
from rl3jax.learning.optimise import Diagnostics, Learned, optimise, over_task_chunks
from rl3jax.networks import Memory, as_memory, make_network
from rl3jax.object_level import Features, ObjectLearner, make_learner
from rl3jax.policy import (
    BELIEFS,
    HEADS,
    Belief,
    Head,
    Network,
    ObservationLayout,
    PlainHead,
    distribution_over,
    fields_of,
)
from rl3jax.rollout import Trajectory, rollouts, sample_tasks


@struct.dataclass
class TrainState:
    """Everything that training carries from one iteration to the next.

    Attributes:
        iteration: meta-iterations done, int32.
        key: the run's key; iteration i draws from its i-th child, so the series of tasks is the
            same whatever is trained on it.
        models: what is learned by gradients, by name, each with its optimiser's state: actor,
            critic and, if there is one that learns, belief.
        learner_params: the object-level learner's parameters; `()` if it has none.
        hyperparams: traced numbers of the run.
    """

    iteration: jax.Array
    key: jax.Array
    models: dict[str, Learned]
    learner_params: Any
    hyperparams: Hyperparams


@struct.dataclass
class Metrics:
    """Scalars of one meta-iteration; returns are undiscounted, of whole meta-episodes.

    Attributes:
        mean_return: mean over the iteration's tasks, of the sampling policy before the update.
        return_variance: over these tasks.
        target_variance: of the critic's targets; 0 if they are alike but for rounding.
        error_variance: of what the critic, before the update, misses of them.
        overflowed_tasks: tasks whose data did not fit into their object-level table (0 unless an
            environment has more next states than it says); training on these is void.
        out_of_range_tasks: tasks in which the environment named a state that it has not; likewise.
        non_finite: shares of tasks with numbers that are not; in no line of metrics.
        diagnostics: of `optimise`: losses, norms of gradients, entropy, KL, the actor's epochs.
        n_tasks: of the iteration.
    """

    mean_return: jax.Array
    return_variance: jax.Array
    target_variance: jax.Array
    error_variance: jax.Array
    overflowed_tasks: jax.Array
    out_of_range_tasks: jax.Array
    non_finite: NonFinite
    diagnostics: Diagnostics
    n_tasks: int = struct.field(pytree_node=False)

    @property
    def stderr_return(self) -> Float[Array, "..."]:
        """Standard error of `mean_return` over tasks; NaN of a single one."""
        with jax.debug_nans(False):  # those here are meant
            return jnp.sqrt(self.return_variance / (self.n_tasks - 1 or jnp.nan))

    @property
    def explained_variance(self) -> Float[Array, "..."]:
        """Share of the targets' variance that the critic had foreseen; NaN if there is none."""
        with jax.debug_nans(False):
            variance = jnp.where(self.target_variance == 0, jnp.nan, self.target_variance)
            return 1 - self.error_variance / variance

    def to_dict(self) -> dict[str, float]:
        """Flat, on the host; NaN where a number is not defined."""
        names = (
            "mean_return", "stderr_return", "explained_variance", "overflowed_tasks",
            "out_of_range_tasks",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names} | self.diagnostics
        return {name: float(value) for name, value in jax.device_get(values).items()}


@dataclass(frozen=True)
class Trainer:
    """A configuration's static parts, and the pure functions on top of them.

    Trainers that differ in the config's traced numbers, seed or files alone share their programs.

    Attributes:
        env, learner: what the agent interacts with, and its object-level RL.
        layout: what the policy sees.
        belief: what it believes of a task.
        settings: of PPO, with the actor and critic networks.
        n_tasks: meta-episodes per iteration, on all devices together.
        critic_scale: rewards are multiplied by it before PPO sees them.
        rollout_chunk: meta-episodes that a device plays at a time; `None`: all of its share.
        config: resolved.
    """

    env: TaskDistribution
    learner: ObjectLearner
    layout: ObservationLayout
    belief: Belief
    settings: ppo.Settings
    n_tasks: int
    critic_scale: float
    rollout_chunk: int | None
    config: Resolved = dataclasses.field(compare=False)

    def init(self, key: PRNGKeyArray, hyperparams: Hyperparams | None = None) -> TrainState:
        """Fresh networks. The key is consumed; `hyperparams` default to the config's."""
        state = self._init(key, hyperparams or self.config.hyperparams())
        return self.settings.devices.replicate(state)

    @partial(jax.jit, static_argnums=0)
    def _init(self, key: PRNGKeyArray, hyperparams: Hyperparams) -> TrainState:
        key_models, key_learner, key_run, key_belief = jax.random.split(key, 4)
        models = ppo.init(self.settings, hyperparams, self.layout.size, key_models)
        models |= beliefs.init(self.belief, self.layout, key_belief)
        # Without weak types, which the first update would make strong, and compile anew.
        learner_params = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.result_type(x)), self.learner.init_params(key_learner)
        )
        return TrainState(jnp.int32(0), key_run, models, learner_params, hyperparams)

    @partial(jax.jit, static_argnums=0)
    def update(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One meta-iteration: a meta-episode in each of `n_tasks` fresh tasks, then PPO."""
        return self.settings.devices.on_each(self._update)(devices.brought_here(state))

    def _update(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """`update` as each device does it, with its share of the tasks."""
        key = jax.random.fold_in(state.key, state.iteration)
        key_tasks, key_rollouts, key_learning, key_belief = jax.random.split(key, 4)

        trajectory = self.collect(state, key_tasks, key_rollouts)
        batch = self.batch(state, trajectory)
        if self.belief.learns:
            batch = dataclasses.replace(batch, belief=self._evidence(trajectory, key_belief))
        progress = state.iteration / jnp.maximum(state.hyperparams.iterations - 1, 1)
        trained = self.settings, state.hyperparams, progress, self.layout.horizon
        parts = ppo.parts(*trained) | beliefs.parts(self.belief, *trained)
        models, diagnostics = optimise(
            parts, state.models, batch, self.settings.passes, key_learning
        )

        learner_params = self._learn(state.learner_params, trajectory.summary)
        returns, average = trajectory.reward.sum(axis=0), self.settings.devices.average
        metrics = Metrics(
            mean_return=self.settings.devices.mean(returns),
            return_variance=self._variance(returns),
            target_variance=self._variance(batch.value_target),
            error_variance=self._variance(batch.advantage),
            overflowed_tasks=self._tasks_with(trajectory.overflowed),
            out_of_range_tasks=self._tasks_with(trajectory.out_of_range),
            non_finite=average(non_finite(trajectory, batch.value_target)),
            diagnostics=diagnostics,
            n_tasks=self.n_tasks,
        )
        state = dataclasses.replace(
            state,
            iteration=state.iteration + 1,
            models=models,
            learner_params=learner_params,
        )
        return state, metrics

    def _evidence(self, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[Any, Any]:
        """What the belief learns from, and what its loss draws for this device's tasks."""
        keys = self.settings.devices.own(jax.random.split(key, self.n_tasks))
        return trajectory.evidence, beliefs.chance(self.belief, keys, self.layout.horizon)

    def _learn(self, learner_params: Any, summaries: Any) -> Any:
        """The learner's parameters after the tasks of an iteration, on all devices."""
        own = jax.tree.map(lambda x: x.sum(axis=(0, 1)), summaries)
        return self.learner.bind(learner_params).learn(self.settings.devices.total(own))

    def train(
        self, key: PRNGKeyArray, hyperparams: Hyperparams | None = None
    ) -> tuple[TrainState, Metrics]:
        """A whole run of `config.iterations`; the history's fields are `[iterations]`."""
        hyperparams = hyperparams or self.config.hyperparams()
        if not devices.has_explicit_mesh(key):
            return self._train(self.config.iterations, key, hyperparams)
        impl = jax.random.key_impl(key)

        def whole(key_data: Array, hyperparams: Hyperparams) -> tuple[TrainState, Metrics]:
            key = jax.random.wrap_key_data(key_data, impl=impl)
            return self._train(self.config.iterations, key, hyperparams)

        with jax.sharding.use_abstract_mesh(jax.typeof(key).sharding.mesh):
            return devices.replicated_when_batched(whole)(jax.random.key_data(key), hyperparams)

    @partial(jax.jit, static_argnums=(0, 1))
    def _train(
        self, iterations: int, key: PRNGKeyArray, hyperparams: Hyperparams
    ) -> tuple[TrainState, Metrics]:
        def iteration(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            return self.update(state)

        return jax.lax.scan(iteration, self._init(key, hyperparams), length=iterations)

    def agent(self, state: TrainState, greedy: bool = True) -> PolicyAgent:
        """The current policy, to act in single tasks."""
        return PolicyAgent(
            params=state.models["actor"].params,
            features=self.env.features,
            learner_params=state.learner_params,
            network=self.settings.actor,
            learner=self.learner,
            distribution=self.settings.distribution,
            layout=self.layout,
            greedy=greedy,
            belief=self.belief,
            belief_params=state.models["belief"].params if self.belief.learns else (),
        )

    def collect(
        self, state: TrainState, key_tasks: PRNGKeyArray, key_rollouts: PRNGKeyArray
    ) -> Trajectory:
        """Meta-episodes of the sampling policy in this device's share of fresh tasks."""
        own = self.settings.devices.own
        return rollouts(
            self.agent(state, greedy=False),
            self.env,
            sample_tasks(self.env, own(jax.random.split(key_tasks, self.n_tasks))),
            self.layout.horizon,
            own(jax.random.split(key_rollouts, self.n_tasks)),
            self.rollout_chunk,
        )

    def batch(self, state: TrainState, trajectory: Trajectory) -> ppo.Batch:
        """Advantages and value targets; the critic sees the finished sequences only here."""
        critic = self.settings.critic
        value = over_task_chunks(
            partial(ppo.values, critic, state.models["critic"].params),
            self.settings.tasks_at_a_time(critic, self.layout.horizon),
            trajectory.observation,
        )
        hyperparams = state.hyperparams
        reward = trajectory.reward * self.critic_scale
        advantage = ppo.gae(reward, value, hyperparams.discount, hyperparams.gae_lambda)
        return ppo.Batch(
            observation=trajectory.observation,
            action=trajectory.action,
            behaviour=trajectory.behaviour,
            advantage=advantage,
            value_target=value + advantage,
            weight=(~trajectory.waiting).astype(float) if self.env.waits else None,
        )

    def _tasks_with(self, flags: Bool[Array, "T B"]) -> Float[Array, ""]:
        """How many tasks of all devices are flagged at some step."""
        return self.settings.devices.mean(flags.any(axis=0).astype(float)) * self.n_tasks

    def _variance(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """Over the entries on all devices; of equal ones 0, whatever rounding makes of it."""
        mean = self.settings.devices.mean
        centre = mean(x)
        variance, rounding = mean(jnp.square(x - centre)), 8 * jnp.finfo(x.dtype).eps * centre
        return jnp.where(variance > jnp.square(rounding), variance, 0.0)


def make_trainer(
    config: Config,
    env: TaskDistribution | None = None,
    learner: ObjectLearner | None = None,
    network: nn.Module | None = None,
) -> Trainer:
    """A trainer for `config`, with parts of one's own in place of those that it names.

    Args:
        config: need not be resolved.
        env: instead of `config.env` with its options; its own defaults then hold, and the
            trainer's config records it.
        learner: instead of `config.object_level` with its options (also under rl2, which then
            carries it without seeing it).
        network: instead of `config.network`: a memory of rl3jax's, or any `flax.linen` module,
            recurrent if it has `initialize_carry` ((carry, x) → (carry, y)), else feed-forward.

    Raises:
        ConfigError: if the config's parts do not fit together, or it has options of parts that are
            given here.
    """
    config = _with_own_parts(config, env, learner, network)
    if learner is not None and config.head is None:  # the environment's default is for its own
        config = dataclasses.replace(config, head=Resolved.head)
    config = config.resolve()
    if config.shown != "all" and config.algo == "rl2":
        raise ConfigError("shown is of value estimates and counts, which algo rl2 has not")
    env = env or config_env(config)
    distribution = distribution_over(env.action_space(), env.action_anchors, config.squash_actions)
    options = dict(config.options)
    if learner is None:
        own = _options_of(config, "object_level", "algo")
        learner = make_learner(config.object_level, config.algo, own, env, config.horizon)
    if network is None:
        own = _options_of(config, "network")
        memory = make_network(config.network, width=config.width, horizon=config.horizon, **own)
    else:
        memory = as_memory(network)
    layout = layout_of(
        env,
        learner,
        distribution,
        config.horizon,
        shows_estimates=config.algo != "rl2",
        value_scale=config.value_scale,
        reward_scale=config.reward_scale,
        squash=config.squash_values,
        shown=config.shown,
    )
    make_belief = BELIEFS.bind(config.belief, options)
    belief = make_belief(layout, getattr(env, "num_states", None))
    layout = _with_belief(layout, belief, memory)
    settings = ppo.Settings(
        actor=_network(memory, HEADS.bind(config.head, options)(layout, distribution), layout),
        critic=_network(memory, PlainHead(), layout),
        distribution=distribution,
        epochs=config.epochs,
        tasks_per_minibatch=config.tasks_per_minibatch,
        kl_limit=config.kl_limit,
        adam_epsilon=config.adam_epsilon,
        tasks_per_gradient=config.gradient_chunk,
        devices=_devices(config),
    )
    return Trainer(
        env,
        learner,
        layout,
        belief,
        settings,
        config.n_tasks,
        config.critic_scale,
        config.rollout_chunk,
        config,
    )


def _options_of(config: Config, *kinds: str) -> dict[str, Any]:
    """Those of the options that belong to the config's parts of these kinds."""
    own = {name for part in config.parts if part.kind in kinds for name in part.options}
    return {name: value for name, value in config.options if name in own}


def _with_belief(layout: ObservationLayout, belief: Belief, memory: Memory) -> ObservationLayout:
    """The layout, with what the policy is shown of its belief.

    Raises:
        ConfigError: if it has a memory beside a belief that learns.
    """
    if not belief.learns:
        return layout
    if jax.tree.leaves(memory.initial_carry(layout.horizon, layout.size)):
        raise ConfigError(
            f"belief varibad is the memory of its policy and needs network markov, not "
            f"{type(memory).__name__}"
        )

    def given() -> Features:
        params = belief.init_params(jax.random.key(0), layout)
        return belief.features(params, belief.init())

    return dataclasses.replace(layout, belief=fields_of(jax.eval_shape(given)))


def _network(memory: Memory, head: Head, layout: ObservationLayout) -> Network:
    """The memory with a head.

    Raises:
        ConfigError: if it cannot read such observations.
    """
    network = Network(memory, head)
    try:
        params = jax.eval_shape(lambda: network.init(jax.random.key(0), layout.size))
    except ValueError:
        raise
    except Exception as error:  # of all kinds: the module may be anybody's
        raise ConfigError(f"network {shown(memory)} cannot be used: {one_line(error)}") from error
    if others := params["memory"].keys() - {"params"}:
        raise ConfigError(
            f"network {shown(memory)} has variables that are no parameters: {', '.join(others)}"
        )
    return network


def config_env(config: Config) -> TaskDistribution:
    """The environment that a config names.

    Raises:
        ConfigError: if its variation or options are not allowed.
    """
    return make_env(config.env, variation=config.variation, **config.env_options)


def _with_own_parts(
    config: Config,
    env: TaskDistribution | None,
    learner: ObjectLearner | None,
    network: nn.Module | None,
) -> Config:
    """The config with `env` in it; what it says of a part that is given would be ignored."""
    if env is not None:
        check_usable(env)
    given = {"object_level": learner, "algo": learner, "network": network}
    for part in config.parts:
        unused = [name for name, _ in config.options if name in part.options]
        # A resolved config has all options of a learner, whether they were given or not.
        if given.get(part.kind) is not None and unused and not isinstance(config, Resolved):
            raise ConfigError(
                f"{unused[0]} is an option of {part.title}, in whose place another part is given"
            )
    if env is None:
        return config
    named = config.variation or config.env_options or isinstance(config, Resolved)
    if config.env == Config.env and not named:
        return dataclasses.replace(config, **describe_env(env))
    if config_env(config) != env:
        raise ConfigError(
            f"two environments are given: env {config.env!r} in the config, and {env}"
        )
    return config


def _devices(config: Resolved) -> Devices:
    """Those that share the tasks of a run; chunks are of a device's share.

    Raises:
        ConfigError: if tasks do not divide over devices, or a device's share over chunks.
    """
    per_minibatch = config.tasks_per_minibatch
    rest = config.n_tasks % per_minibatch
    divides = {"n_tasks": config.n_tasks, "the tasks of a minibatch": per_minibatch}
    if rest:
        divides["the tasks of the last minibatch"] = rest
    chosen = devices.choose(config.devices, divides)
    for name, total in (("rollout_chunk", config.n_tasks), ("gradient_chunk", per_minibatch)):
        chunk, share = getattr(config, name), total // chosen.most
        if chunk is not None and share % chunk and chunk < share:
            nearest = largest_divisor(share, chunk)
            raise ConfigError(
                f"{name} must divide the {share} tasks that a device has of "
                f"{'an iteration' if name == 'rollout_chunk' else 'a minibatch'}; {chunk} does "
                f"not, {nearest} does"
            )
    return chosen
