"""Scoring agents on held-out tasks (RL³, section 5: undiscounted return of whole meta-episodes)."""

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax import devices, statistics
from rl3jax.agent import Agent, PolicyAgent
from rl3jax.baselines import AgentOrMaker, make_baseline
from rl3jax.checks import ConfigError, check_size, one_line, shown
from rl3jax.devices import Devices
from rl3jax.envs import StateFeatures, TabularFeatures, TaskDistribution, check_usable
from rl3jax.policy import Network, TanhGaussian, distribution_over
from rl3jax.rollout import rollout, sample_tasks


@dataclass(frozen=True)
class Evaluation:
    """Scores of one agent, a meta-episode a task; NumPy arrays on the host.

    Attributes:
        rewards: `[n_tasks, T]`, undiscounted.
        episode_ends: `[n_tasks, T]` bool, where object-level episodes ended.
        tasks: those that were played, a pytree of arrays `[n_tasks, ...]`.
    """

    rewards: Float[np.ndarray, "n_tasks T"]
    episode_ends: Bool[np.ndarray, "n_tasks T"]
    tasks: Any = field(default=None, repr=False, compare=False)

    @property
    def returns(self) -> Float[np.ndarray, " n_tasks"]:
        """Undiscounted return of each task's meta-episode."""
        return self.rewards.sum(axis=1, dtype=np.float64)

    @property
    def mean(self) -> float:
        """Mean return over tasks."""
        return self.score.value

    @property
    def stderr(self) -> float:
        """Standard error of the mean over tasks; NaN for a single task."""
        return self.score.stderr

    @property
    def score(self) -> statistics.Estimate:
        """Mean and standard error as one."""
        return statistics.mean_and_stderr(self.returns)

    @property
    def reward_per_step(self) -> Float[np.ndarray, " T"]:
        """Mean reward over tasks at each step of the meta-episode."""
        return self.rewards.mean(axis=0, dtype=np.float64)

    def return_per_episode(self) -> tuple[Float[np.ndarray, " E"], Float[np.ndarray, " E"]]:
        """Mean return of the k-th object-level episode, and how many tasks reached it.

        An episode that the end of the budget cuts short counts; E is the largest number of
        episodes in any task.
        """
        curve = statistics.return_per_episode(self.rewards, self.episode_ends)
        return curve.mean, curve.n_tasks.astype(float)


def evaluate_agent(
    agent: AgentOrMaker | str,
    env: TaskDistribution,
    horizon: int,
    n_tasks: int | None = None,
    key: PRNGKeyArray | None = None,
    batch_size: int | None = None,
    *,
    tasks: Any = None,
) -> Evaluation:
    """One meta-episode of `horizon` env steps in each of `n_tasks` tasks drawn from `key`.

    The same key gives the same tasks to every agent, and the same scores in the same tasks.

    Args:
        agent: an agent, or a hashable function from a task to the agent that knows it, or the name
            of a baseline (`baselines.names`).
        env: what the tasks are of.
        horizon: env steps of a meta-episode; agents are told of it.
        n_tasks: number of tasks; it need not be given beside `tasks`.
        key: decides the tasks and all chance in them; consumed. It has to be given.
        batch_size: tasks at a time on each device, to bound memory (default: all at once). Same
            scores.
        tasks: instead of those that the key gives: a pytree of arrays `[n_tasks, ...]`.

    Raises:
        ConfigError: if a size is none, the agent is for other numbers of states or actions than
            `env` has, a batch of agents, or no baseline that plays in `env`, or `tasks` are not
            such as `env` has.
        TableOverflowError: if the agent's object-level table could not hold a task's data.
        StateRangeError: if the environment named a state outside [0, `num_states`), or a vector
            that is not finite.
        NotFiniteError: if a reward is NaN or infinite.
    """
    check_usable(env)
    check_size("horizon", horizon)
    check_size("batch_size", 1 if batch_size is None else batch_size)
    horizon, batch_size = int(horizon), None if batch_size is None else int(batch_size)
    if isinstance(agent, str):
        agent = make_baseline(agent, env, horizon)
    if isinstance(agent, PolicyAgent):
        check_fits(agent, env)
    _check_playable(agent)
    key_tasks, key_episodes = _split(key)
    size = _number_of(tasks, n_tasks)
    if tasks is None:
        tasks = _sample_tasks(env, jax.random.split(key_tasks, size))
    else:
        tasks = _given_tasks(env, tasks)
    keys = jax.random.split(key_episodes, size)
    known, make_agent = _known_or_made(agent)
    shared_by = devices.choose_local({"n_tasks": size})
    players = shared_by.replicate(known)
    rewards, ends, overflowed, out_of_range = _score(
        env, horizon, batch_size, make_agent, shared_by, players, *shared_by.deal((tasks, keys))
    )
    check_tasks(int(overflowed.sum()), int(out_of_range.sum()), size)
    evaluation = Evaluation(np.asarray(rewards), np.asarray(ends), tasks)
    _check_rewards(evaluation.rewards)
    return evaluation


def _check_playable(agent: Any) -> None:
    """Raises ConfigError unless this is an agent, or a function that may make agents."""
    if not isinstance(agent, Agent) and not (callable(agent) and isinstance(agent, Hashable)):
        raise ConfigError(
            "agent must be an agent, the name of a baseline, or a hashable function from a task "
            f"to an agent; not {shown(agent)}"
        )


def _split(key: Any) -> Array:
    """Two keys of one; raises ConfigError if it is none."""
    try:
        return jax.random.split(key)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "evaluate_agent needs a key, for instance rl3jax.held_out_key(); of "
            f"{shown(key)} JAX says: {one_line(error)}"
        ) from error


def _known_or_made(agent: AgentOrMaker) -> tuple[Agent | None, Callable[[Any], Agent] | None]:
    return (agent, None) if isinstance(agent, Agent) else (None, agent)


def trace_evaluation(
    agent: AgentOrMaker,
    env: TaskDistribution,
    horizon: int,
    n_tasks: int,
    batch_size: int | None = None,
) -> jax.stages.Traced:
    """Trace the program of `evaluate_agent`, maybe from an agent of shapes; nothing is computed.

    Once it is compiled, `evaluate_agent` does not compile it again in this process.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), n_tasks))
    tasks = jax.eval_shape(partial(sample_tasks, env), keys)
    shared_by = devices.choose_local({"n_tasks": n_tasks})
    known, make_agent = _known_or_made(agent)
    players, dealt = shared_by.replicate(known), shared_by.deal((tasks, keys))
    return _score.trace(env, horizon, batch_size, make_agent, shared_by, players, *dealt)


def check_fits(agent: PolicyAgent, env: TaskDistribution) -> None:
    """Raises ConfigError unless it is one policy, of as many states and actions as `env` has."""
    expected = _param_shapes(agent.network, agent.layout.size)
    found = [np.shape(x) for x in jax.tree.leaves(agent.params)]
    if found != expected:
        batched = [shape[1:] for shape in found] == expected
        raise ConfigError(
            f"the agent holds a batch of {found[0][0]} policies; give one of them"
            if batched
            else "the agent's parameters are not those of its network"
        )
    knows = _sizes(agent.features), agent.distribution
    squashed = isinstance(agent.distribution, TanhGaussian)
    acts = distribution_over(env.action_space(), env.action_anchors, squashed)
    has = _sizes(jax.eval_shape(lambda: env.features)), acts
    if knows != has:
        raise ConfigError(
            f"the policy is for {knows[0]} and {knows[1].described}, this environment has "
            f"{has[0]} and {has[1].described}"
        )
    learns, there_are = (getattr(x, "num_states", None) for x in (agent.learner, env))
    if learns not in (None, there_are):
        raise ConfigError(
            f"the policy's object-level learner is for {learns} states, this environment has "
            f"{there_are}"
        )


@functools.cache
def _param_shapes(network: Network, num_inputs: int) -> list[tuple[int, ...]]:
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), num_inputs))
    return [x.shape for x in jax.tree.leaves(params)]


def _number_of(tasks: Any, n_tasks: int | None) -> int:
    """How many tasks are given, or wanted."""
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(tasks)} or {(n_tasks,)}
    if len(lengths) > 1 or lengths == {()} or n_tasks not in {None, *min(lengths)}:
        raise ConfigError(f"tasks must be arrays [{n_tasks or 'n_tasks'}, ...]: {shown(tasks)}")
    (length,) = min(lengths)
    check_size("n_tasks", length)
    return int(length or 0)


def _given_tasks(env: TaskDistribution, tasks: Any) -> Any:
    """Tasks as arrays of the environment's own types."""
    like = jax.eval_shape(env.sample_task, jax.random.key(0))
    structure: Any = jax.tree.structure(like)
    if jax.tree.structure(tasks) != structure:
        raise ConfigError(f"tasks must be like those of {type(env).__name__}: {shown(like)}")

    def cast(x: Any, like: jax.ShapeDtypeStruct) -> Any:
        if np.shape(x)[1:] != like.shape:
            raise ConfigError(f"an array of tasks is {np.shape(x)}, not [n_tasks, *{like.shape}]")
        return x if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else jnp.asarray(x, like.dtype)

    return jax.tree.map(cast, tasks, like)


def _sizes(features: StateFeatures) -> str:
    """What states are, in words."""
    if isinstance(features, TabularFeatures):
        return f"{len(features.table)} states"
    return f"states of {features.size} numbers"


class TableOverflowError(ConfigError):
    """An object-level table had too few slots for the next states of a pair."""


class StateRangeError(ConfigError):
    """An environment named a state that it has not."""


class NotFiniteError(ConfigError):
    """A number that should be finite is not."""


def check_tasks(overflowed: int, out_of_range: int, n_tasks: int) -> None:
    """Raises StateRangeError or TableOverflowError if so many of `n_tasks` tasks are void."""
    if out_of_range:
        raise StateRangeError(
            f"in {out_of_range} of {n_tasks} tasks the environment named a state outside "
            "[0, num_states), or one that is not finite; rl3jax.check_env tells more"
        )
    if overflowed:
        raise TableOverflowError(
            f"{overflowed} of {n_tasks} tasks had a pair of state and action with more next "
            "states than the object-level model has slots; give more (successor_slots), or set "
            "max_successors of the environment to what it needs"
        )


def _check_rewards(rewards: Float[np.ndarray, "n_tasks T"]) -> None:
    void = ~np.isfinite(rewards).all(axis=1)
    if void.any():
        raise NotFiniteError(f"rewards are not finite in {void.sum()} of {len(void)} tasks")


_sample_tasks = jax.jit(sample_tasks, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _score(
    env: TaskDistribution,
    horizon: int,
    batch_size: int | None,
    make_agent: Callable[[Any], Agent] | None,
    shared_by: Devices,
    agent: Agent | None,
    tasks: Any,
    keys: Any,
) -> tuple[Array, ...]:
    """Rewards and episode ends, each `[n_tasks, T]`.

    And, of each task, whether its table overflowed, and whether a state was out of range.
    """

    def one_task(agent: Agent | None, task: Any, key: PRNGKeyArray) -> tuple[Array, ...]:
        player = agent if make_agent is None else make_agent(task)
        if not isinstance(player, Agent):
            raise ConfigError(f"{shown(make_agent)} made no agent of a task, but {shown(player)}")
        trajectory = rollout(player.for_horizon(horizon), env, task, horizon, key)
        ends = trajectory.terminated | trajectory.truncated
        void = trajectory.overflowed.any(), trajectory.out_of_range.any()
        return trajectory.reward, ends, *void

    def play(agent: Agent | None, tasks: Any, keys: Any) -> tuple[Array, ...]:
        play_one = partial(one_task, agent)
        if batch_size is None:
            return jax.vmap(play_one)(tasks, keys)
        return jax.lax.map(lambda args: play_one(*args), (tasks, keys), batch_size=batch_size)

    return shared_by.split(play, num_shared=1)(agent, tasks, keys)
