"""A meta-episode as arrays on the host: what an agent did in one task, and what it had learnt."""

from collections.abc import Container
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent, Decision, Interaction, PolicyAgent
from rl3jax.baselines import AgentOrMaker
from rl3jax.envs import Environment, ScaledFeatures, State, TaskDistribution
from rl3jax.evaluation import check_tasks
from rl3jax.object_level import NoLearner, ObjectLearner, TabularLearner
from rl3jax.object_level.local_model import KindsModel
from rl3jax.policy import Varibad
from rl3jax.rollout import Trajectory, rollout


class Belief(NamedTuple):
    """What an agent believes of the states of a task, each of which is of one of C kinds.

    Attributes:
        kind: `[M, C, S]`, probabilities of each state's kinds; kind 0 cannot be entered.
        reward: `[M, C]`, of entering a state of each kind.
        ends: `[M, C]`, probability that entering it ends the object-level episode.
    """

    kind: Any
    reward: Any
    ends: Any


@dataclass(frozen=True)
class MetaEpisode:
    """One agent's meta-episode of H steps in one task; NumPy arrays.

    A moment m, from 0 to H, is when m steps have been taken. An episode's last moment is the one
    at which it ends, so that moment 0 alone is before any step.

    Attributes:
        env, task: what was acted in.
        learner: the agent's object-level RL; `None` if it has none.
        state: `[M]`, or `[M, D]` of vectors, the state to act in next.
        entered: likewise, where the last step led: another state than that after an episode's end.
        q: `[M, S, A]`, the object-level values, or `[M, A]`, those in the current state, where
            states are vectors; `None` without a learner.
        action, reward: `[H]`, of each step; an action in a box is `[H, n]`.
        terminated, truncated: `[H]` bool, where object-level episodes ended.
        belief: what the agent believes at each moment; `None` unless it knows kinds of states.
    """

    env: TaskDistribution
    task: Any
    learner: ObjectLearner | None
    state: Num[np.ndarray, "M *D"]
    entered: Num[np.ndarray, "M *D"]
    q: Float[np.ndarray, "M ..."] | None
    action: Num[np.ndarray, "H *n"]
    reward: Float[np.ndarray, " H"]
    terminated: Bool[np.ndarray, " H"]
    truncated: Bool[np.ndarray, " H"]
    belief: Belief | None = None

    @property
    def horizon(self) -> int:
        """H, steps of the meta-episode."""
        return len(self.action)

    @property
    def ends(self) -> Int[np.ndarray, " E"]:
        """The moments at which object-level episodes ended."""
        return np.flatnonzero(self.terminated | self.truncated) + 1

    @property
    def first_moment(self) -> Int[np.ndarray, " M"]:
        """Of each moment, that at which its object-level episode started."""
        starts = np.concatenate([[0], self.ends])
        return starts[self.episode - 1]

    @property
    def episode(self) -> Int[np.ndarray, " M"]:
        """The object-level episode of each moment, the first being 1."""
        return 1 + np.searchsorted(self.ends, np.arange(self.horizon + 1), side="left")

    @property
    def episode_step(self) -> Int[np.ndarray, " M"]:
        """Steps taken in the object-level episode."""
        return np.arange(self.horizon + 1) - self.first_moment

    @property
    def return_so_far(self) -> Float[np.ndarray, " M"]:
        """Undiscounted return of the meta-episode."""
        return np.concatenate([[0.0], np.cumsum(self.reward, dtype=np.float64)])

    @property
    def pauses(self) -> Int[np.ndarray, " E"]:
        """Ends of episodes that took more than a step: moments to look at for longer."""
        return self.ends[self.episode_step[self.ends] > 1]

    def trail(self, moment: int) -> Num[np.ndarray, "L *D"]:
        """The states of the object-level episode up to `moment`, its start first."""
        first = self.first_moment[moment]
        return np.concatenate([self.state[first : first + 1], self.entered[first + 1 : moment + 1]])

    def visits(self, moment: int) -> Int[np.ndarray, "S A"]:
        """N(s, a), how often each action was taken in each state."""
        counts = np.zeros((self._num_states, self.env.num_actions), int)
        np.add.at(counts, (self.state[:moment], self.action[:moment]), 1)
        return counts

    @property
    def _num_states(self) -> int:
        assert isinstance(self.env, Environment)
        return self.env.num_states

    def visited(self, moment: int) -> Bool[np.ndarray, " S"]:
        """The states that the agent has been in."""
        been = np.zeros(self._num_states, bool)
        been[self.state[: moment + 1]] = True
        been[self.entered[: moment + 1]] = True
        return been


# --- recording ----------------------------------------------------------------------------------


def record_episode(
    agent: AgentOrMaker, env: TaskDistribution, task: Any, horizon: int, key: PRNGKeyArray
) -> MetaEpisode:
    """The meta-episode that `rollout` gives for the same arguments, with what can be drawn of it.

    Args:
        agent: an agent, or a function from a task to the agent that knows it. Values are recorded
            of a `PolicyAgent` whose learner learns.
        env: what `task` is of.
        task: one task.
        horizon: env steps; the agent is told of it.
        key: decides all chance; consumed.

    Raises:
        TableOverflowError: if the agent's object-level table could not hold the task's data.
        StateRangeError: if the environment named a state outside [0, `num_states`).
    """
    player = agent if isinstance(agent, Agent) else agent(task)
    trajectory = jax.device_get(_record(env, player, task, horizon, key))
    overflowed, out_of_range = trajectory.overflowed[:horizon], trajectory.out_of_range[:horizon]
    check_tasks(int(overflowed.any()), int(out_of_range.any()), n_tasks=1)
    before: _Situation = trajectory.observation
    return MetaEpisode(
        env=env,
        task=jax.device_get(task),
        learner=_learner(player),
        state=before.state,
        entered=before.entered,
        q=before.q,
        action=trajectory.action[:horizon],
        reward=trajectory.reward[:horizon],
        terminated=trajectory.terminated[:horizon],
        truncated=trajectory.truncated[:horizon],
        belief=before.belief,
    )


def evaluation_task(
    env: TaskDistribution, key: PRNGKeyArray, index: int
) -> tuple[Any, PRNGKeyArray]:
    """The task that `evaluate_agent` draws from `key` at a place, and its meta-episode's key.

    The key is consumed. Memory grows with `index`.
    """
    key_tasks, key_episodes = jax.random.split(key)
    task = sample_task(env, jax.random.split(key_tasks, index + 1)[index])
    return task, jax.random.split(key_episodes, index + 1)[index]


@partial(jax.jit, static_argnums=0)
def sample_task(env: TaskDistribution, key: PRNGKeyArray) -> Any:
    """A task of `env`, by a program that is compiled once. The key is consumed."""
    return env.sample_task(key)


class _Situation(NamedTuple):
    """What `MetaEpisode` says of one moment."""

    state: Any
    entered: Any
    q: Any
    belief: Any


class _WatchedCarry(NamedTuple):
    inner: Any
    state: State
    entered: State


class _Watched(Agent):
    """An agent whose decisions carry its situation where others have the observation."""

    inner: Agent

    @override
    def init(self, s: State) -> _WatchedCarry:
        return _WatchedCarry(self.inner.init(s), s, s)

    @override
    def act(self, carry: _WatchedCarry, key: PRNGKeyArray) -> tuple[Any, _WatchedCarry]:
        decision, carry = self.decide(carry, key)
        return decision.action, carry

    @override
    def decide(self, carry: _WatchedCarry, key: PRNGKeyArray) -> tuple[Decision, _WatchedCarry]:
        learner = _learner(self.inner)
        q = _values(learner, carry)
        decision, inner = self.inner.decide(carry.inner, key)
        belief = _belief(self.inner, carry.inner)
        situation = _Situation(carry.state, carry.entered, q, belief)
        action = self.inner.played(decision.action)
        return Decision(action, (), situation), carry._replace(inner=inner)

    @override
    def take_in(self, carry: _WatchedCarry, interaction: Interaction) -> _WatchedCarry:
        inner = self.inner.observe(carry.inner, *interaction)
        return _WatchedCarry(inner, interaction.s_now, interaction.s_next)

    @override
    def takes(self) -> tuple[Array | None, Array | None]:
        return self.inner.takes()

    @override
    def overflowed(self, carry: _WatchedCarry) -> Bool[ArrayLike, ""]:
        return self.inner.overflowed(carry.inner)


def _learner(agent: Agent) -> ObjectLearner | None:
    """The agent's object-level RL, if it has values that can be drawn."""
    learner = agent.bound_learner if isinstance(agent, PolicyAgent) else None
    knows_vectors = isinstance(agent, PolicyAgent) and isinstance(agent.features, ScaledFeatures)
    has_values = knows_vectors and not isinstance(learner, NoLearner)
    return learner if has_values or isinstance(learner, TabularLearner) else None


def _values(learner: ObjectLearner | None, carry: _WatchedCarry) -> Array | None:
    """Those of all states, or of the current one where states are vectors."""
    if isinstance(learner, TabularLearner):
        return learner.q_table(carry.inner.table)
    return None if learner is None else learner.estimates(carry.inner.table, carry.state).q


def _belief(agent: Agent, carry: Any) -> Belief | None:
    """That which is learned from all tasks, or else that of the learner."""
    if not isinstance(agent, PolicyAgent):
        return None
    learner, learned = agent.bound_learner, agent.belief
    if isinstance(learned, Varibad) and learned.num_states is not None:
        mean = learned.features(agent.belief_params, carry.belief)["belief_mean"].numbers
        pays = learned.decoded(agent.belief_params, mean)
        kind = jnp.stack([jnp.zeros_like(pays), 1 - pays, pays])
        return Belief(kind, jnp.array([0.0, 0.0, 1.0]), jnp.zeros(3))
    if not isinstance(learner, KindsModel):
        return None
    kinds = learner.kinds(carry.table)
    return Belief(learner.posterior(carry.table).of_all, kinds.reward, kinds.ends)


@partial(jax.jit, static_argnums=(0, 3))
def _record(
    env: TaskDistribution, agent: Agent, task: Any, horizon: int, key: PRNGKeyArray
) -> Trajectory:
    """One step more than the horizon, for the situation that the last one leads to."""
    return rollout(_Watched(agent.for_horizon(horizon)), env, task, horizon + 1, key)


# --- key moments --------------------------------------------------------------------------------


def key_moments(episode: MetaEpisode, landmarks: dict[int, str], count: int) -> dict[int, str]:
    """At most `count` moments to show of a meta-episode, in order, and what each of them is.

    The last; `landmarks`; ends of episodes, at growing distances, since most is learnt early; and,
    while there is room, the start and the middle of what is not shown yet.
    """
    last = episode.horizon
    chosen = {last: "after the last step"}
    ends = _spread_ends(episode, landmarks, count - len(chosen | landmarks))
    for moment, name in (landmarks | ends | {0: "start"}).items():
        if len(chosen) < count:
            chosen.setdefault(moment, name)
    while len(chosen) < min(count, last + 1):
        shown = sorted(chosen)
        gap = int(np.argmax(np.diff(shown)))
        chosen[(shown[gap] + shown[gap + 1]) // 2] = ""
    return dict(sorted(chosen.items()))


def _spread_ends(episode: MetaEpisode, but: Container[int], count: int) -> dict[int, str]:
    """At most `count` ends of episodes but some, at growing distances from the first on."""
    ends = [int(moment) for moment in episode.ends if moment not in but]
    if count < 1 or not ends:
        return {}
    places = np.unique(np.geomspace(1, len(ends), count + 1)[:-1].round().astype(int)) - 1
    pauses, number = episode.pauses, episode.episode
    return {
        ends[i]: f"end of episode {number[ends[i]]}" if ends[i] in pauses else "" for i in places
    }
