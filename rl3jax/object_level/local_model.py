"""Object-level RL by planning in a model of neighbourhoods, with what tasks share as a prior.

Where states have coordinates, an action's effect is a displacement, the same kind of thing
everywhere (relocatable action models: Sherstov and Stone 2005; Leffler, Littman and Edmunds 2007).
"""

import abc
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from rl3jax.checks import ConfigError, check_choice
from rl3jax.object_level.base import (
    COUNT,
    PLAIN,
    REWARD,
    Estimates,
    Feature,
    Features,
    TabularLearner,
    Transitions,
    features_of,
    num_states_of,
)
from rl3jax.object_level.kinds import (
    FOUND,
    Kinds,
    Posterior,
    Seen,
    Summary,
    by_count,
    describe_kinds,
    entry_evidence,
    expected,
    fit_moves,
    learn_kinds,
    messages,
    move_evidence,
    no_summary,
    posterior,
    says,
    scarcity,
    sets_out_for,
    stay_evidence,
    summarise,
    uniform_kinds,
    weigh,
    z,
)
from rl3jax.object_level.local_planning import LocalMdp, sweep_locally
from rl3jax.object_level.neighbourhood import Neighbourhood, neighbourhood_of
from rl3jax.ranges import OneOf, Positive, Probability, Size

PRIORS = ("none", "pooled", "learned")
Prior = Annotated[str, OneOf(PRIORS)]
NumKinds = Annotated[int, Interval(ge=2, le=64)]
SWEEPS_AT_FIRST = 60
"""Of the plans before any data."""
SURE = -20.0
"""Log-evidence against a state being closed in which an agent has been."""
SHARE_CLOSED = 0.1
"""Probability that a state is closed, of a prior that knows nothing."""


class _Step(NamedTuple):
    """One transition, with the displacement that it was."""

    s: jax.Array
    a: jax.Array
    r: jax.Array
    s_next: jax.Array
    terminated: jax.Array
    move: jax.Array


@struct.dataclass
class LocalTable:
    """What every local model keeps of a task.

    Attributes:
        q, q_optimistic: `[A, S]`, the last plans' values, in reward units.
        visits: `[A, S]` int32, N(s, a).
        entries: `[S]` int32, how often each state was entered, or stayed in.
        reward_sums: `[S]`, of the rewards of these.
        ended: `[S]` bool, whether entering ended an episode.
        overflowed: whether a transition led to no neighbour.
        data: what the kind of local model keeps beside.
    """

    q: jax.Array
    q_optimistic: jax.Array
    visits: jax.Array
    entries: jax.Array
    reward_sums: jax.Array
    ended: jax.Array
    overflowed: jax.Array
    data: Any

    @property
    def mean_rewards(self) -> Float[Array, " S"]:
        """Mean reward of entering each state; 0 of one never entered."""
        return self.reward_sums / jnp.maximum(self.entries, 1)


@dataclass(frozen=True)
class LocalModel(TabularLearner):
    """Plans on neighbours, anew after every transition; see `local_model`."""

    neighbours: tuple[tuple[int, ...], ...]
    discount: Probability
    sweeps_per_step: Size
    second_plan: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.neighbourhood.rows) != self.num_states:
            raise ConfigError(
                f"neighbours must be a row for each of {self.num_states} states, not "
                f"{len(self.neighbourhood.rows)} rows"
            )

    @cached_property
    def neighbourhood(self) -> Neighbourhood:
        """Displacements, and where they lead."""
        return Neighbourhood(self.neighbours)

    @abc.abstractmethod
    def _blank(self) -> Any:
        """The table's `data` where nothing is known."""

    @abc.abstractmethod
    def _record(self, table: LocalTable, step: _Step) -> Any:
        """The `data` after one more transition; the table is that before it."""

    @abc.abstractmethod
    def _believed(self, table: LocalTable) -> tuple[LocalMdp, LocalMdp, Any]:
        """What the careful and the exploring plan are made for, and the `data` with that in it."""

    def init(self) -> LocalTable:
        """No data; the plans that follow from the prior alone."""
        size = (self.num_actions, self.num_states)
        table = LocalTable(
            q=jnp.zeros(size),
            q_optimistic=jnp.zeros(size),
            visits=jnp.zeros(size, jnp.int32),
            entries=jnp.zeros(self.num_states, jnp.int32),
            reward_sums=jnp.zeros(self.num_states),
            ended=jnp.zeros(self.num_states, bool),
            overflowed=jnp.bool_(False),
            data=self._blank(),
        )
        return self._plan(table, SWEEPS_AT_FIRST)

    def update(
        self,
        table: LocalTable,
        s: Int[ArrayLike, ""],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Int[ArrayLike, ""],
        terminated: Bool[ArrayLike, ""],
    ) -> LocalTable:
        """Takes in the transition and plans on."""
        s, a, s_next = (jnp.asarray(x, jnp.int32) for x in (s, a, s_next))
        move, is_any = self.neighbourhood.displacement(s, s_next)
        step = _Step(s, a, jnp.asarray(r, float), s_next, jnp.asarray(terminated, bool), move)
        data = self._record(table, step)
        table = dataclasses.replace(
            table,
            visits=table.visits.at[a, s].add(1),
            entries=table.entries.at[s_next].add(1),
            reward_sums=table.reward_sums.at[s_next].add(step.r),
            ended=table.ended.at[s_next].max(step.terminated),
            overflowed=table.overflowed | ~is_any,
            data=data,
        )
        return self._plan(table, self.sweeps_per_step)

    def _plan(self, table: LocalTable, sweeps: int) -> LocalTable:
        """Both plans, `sweeps` sweeps further."""
        careful, exploring, data = self._believed(table)

        def plan(mdp: LocalMdp, q: Float[Array, "A S"]) -> Float[Array, "A S"]:
            return sweep_locally(mdp, self.neighbourhood, q, self.discount, sweeps)

        q_optimistic = plan(exploring, table.q_optimistic)
        q = plan(careful, table.q) if self.second_plan else q_optimistic
        return dataclasses.replace(table, q=q, q_optimistic=q_optimistic, data=data)

    def estimates(self, table: LocalTable, s: Int[ArrayLike, ""]) -> Estimates:
        """The last plans' values of state `s`, and its visit counts."""
        return Estimates(
            q=self._unless_overflowed(table, table.q[:, s]),
            visits=table.visits[:, s],
            q_optimistic=self._unless_overflowed(table, table.q_optimistic[:, s]),
        )

    def features(self, table: LocalTable, s: Int[ArrayLike, ""]) -> Features:
        """Those of the estimates, and of the task: ended states, the best reward, share entered."""
        entered = table.entries > 0
        best = jnp.max(jnp.where(entered, table.mean_rewards, -jnp.inf))
        return features_of(self.estimates(table, s)) | {
            "ended_states": Feature(table.ended.sum(dtype=float)[None], COUNT),
            "best_reward": Feature(jnp.where(entered.any(), best, 0.0)[None], REWARD),
            "share_entered": Feature(entered.mean(dtype=float)[None], PLAIN),
        }

    def q_table(self, table: LocalTable) -> Float[Array, "S A"]:
        """The last careful plan's values."""
        return self._unless_overflowed(table, table.q.T)

    def overflowed(self, table: LocalTable) -> Bool[ArrayLike, ""]:
        """Whether a transition led to a state that is no neighbour."""
        return table.overflowed

    def _unless_overflowed(
        self, table: LocalTable, x: Float[Array, "*any"]
    ) -> Float[Array, "*any"]:
        return jnp.where(table.overflowed, jnp.nan, x)


# --- counts of the task alone -------------------------------------------------------------------


@dataclass(frozen=True)
class CountedModel(LocalModel):
    """Counts of displacements, of each state and action; the `data` are those, `[A, K, S]`."""

    optimism: float

    def _blank(self) -> Float[Array, "A K S"]:
        num_moves = self.neighbourhood.num_moves
        return jnp.zeros((self.num_actions, num_moves, self.num_states))

    def _record(self, table: LocalTable, step: _Step) -> Float[Array, "A K S"]:
        return table.data.at[step.a, step.move, step.s].add(1)

    def _believed(self, table: LocalTable) -> tuple[LocalMdp, LocalMdp, Any]:
        tried = table.visits > 0
        nothing = jnp.zeros(self.num_states)
        careful = LocalMdp(
            moves=table.data / jnp.maximum(table.visits, 1)[:, None],
            closed=nothing,
            reward=table.mean_rewards,
            goes_on=1.0 - table.ended,
            live=1.0 - table.ended,
            bonus=jnp.zeros_like(table.q),
        )
        bonus = jnp.where(tried | table.ended[None], 0.0, self.optimism)
        return careful, careful._replace(bonus=bonus), table.data


# --- kinds of states ----------------------------------------------------------------------------


@struct.dataclass
class KindsData:
    """What a task has shown of the kinds of its states.

    Attributes:
        evidence: `[C, S]`, log-evidence on kinds.
        said: `[C, S]`, what each state says of its neighbours; `None` if nobody listens.
        closed: `[S]`, probability of kind 0, as the exploring plan believed last.
        found: `[C]`, how many of the states entered are of each kind.
        first_entries: `[2, C, FOUND]`, sums of probabilities just before and after first entries,
            by how many of the kind had been found.
        moves: `[A, K]`, transitions by what they set out for; `None` where the prior knows that.
    """

    evidence: jax.Array
    said: jax.Array | None
    closed: jax.Array
    found: jax.Array
    first_entries: jax.Array
    moves: jax.Array | None = None


@struct.dataclass
class LearnedPrior:
    """Parameters of a local model with a learned prior.

    Attributes:
        kinds: what rollouts go by.
        total: what all iterations have said, the earlier the less; kinds are fitted to it.
        iterations: how many there were, int32.
    """

    kinds: Kinds
    total: Summary
    iterations: jax.Array


@dataclass(frozen=True)
class KindsModel(LocalModel):
    """States of hidden kinds; see `rl3jax.object_level.kinds`."""

    num_kinds: NumKinds

    @abc.abstractmethod
    def kinds(self, table: LocalTable) -> Kinds:
        """What is known of the kinds."""

    @property
    def _unknown(self) -> Kinds:
        num_moves = self.neighbourhood.num_moves
        return uniform_kinds(self.num_kinds, self.num_states, self.num_actions, num_moves)

    def _blank(self) -> KindsData:
        return KindsData(
            evidence=jnp.zeros((self.num_kinds, self.num_states)),
            said=None,
            closed=jnp.zeros(self.num_states),
            found=jnp.zeros(self.num_kinds),
            first_entries=jnp.zeros((2, self.num_kinds, FOUND)),
        )

    def _record(self, table: LocalTable, step: _Step) -> KindsData:
        kinds, s_next = self.kinds(table), step.s_next
        data = self._after_leaving(table, kinds, step)
        weights = kinds.log_place[:, s_next] + data.evidence[:, s_next]
        weights += self._message_to(data, s_next)
        entered = entry_evidence(kinds, step.r, step.terminated)
        before, after = (posterior(weigh(w)).kind for w in (weights, weights + entered))
        is_first = table.entries[s_next] == 0
        first = jnp.stack([before, after])[:, :, None] * by_count(data.found)[None] * is_first
        is_there = jnp.arange(self.num_states) == s_next
        evidence = data.evidence + jnp.where(is_there[None], entered[:, None], 0.0)
        data = self._with_evidence(kinds, data, evidence, s_next[None])
        return dataclasses.replace(
            data,
            found=data.found + after * is_first,
            first_entries=data.first_entries + first,
        )

    def _after_leaving(self, table: LocalTable, kinds: Kinds, step: _Step) -> KindsData:
        """The data with what having moved, or stayed, says of the state left and those around."""
        data, s, stayed = table.data, step.s, step.move == 0
        is_new = (table.entries[s] == 0) & (table.visits[:, s].sum() == 0)
        kind = posterior(weigh(kinds.log_share + data.evidence[:, s])).kind
        in_vain = stay_evidence(kind @ kinds.moves[:, step.a], self._closed_around(data, s))
        in_vain = jnp.where(stayed & self._exists(s), in_vain, 0.0)
        moved = jnp.where(stayed, 0.0, move_evidence(kinds, step.a, step.move))
        moved = moved.at[0].set(jnp.where(is_new, SURE, 0.0))
        around = self.neighbourhood.array[s]
        is_here = jnp.arange(self.num_states) == s
        evidence = data.evidence + jnp.where(is_here[None], moved[:, None], 0.0)
        return self._with_evidence(kinds, data, evidence.at[0, around].add(in_vain), around)

    def _with_evidence(
        self, kinds: Kinds, data: KindsData, evidence: Float[Array, "C S"], where: Int[Array, " n"]
    ) -> KindsData:
        """The data with evidence that is new at some states, which then say something new."""
        said = data.said
        if said is not None:
            new = says(kinds, evidence[:, where])
            # By masks: XLA's scatter would first copy what all tasks say into another order.
            for i, s in enumerate(where):
                said = jnp.where((jnp.arange(self.num_states) == s)[None], new[:, i, None], said)
        return dataclasses.replace(data, evidence=evidence, said=said)

    def _exists(self, s: Int[Array, ""]) -> Bool[Array, " K"]:
        return jnp.asarray(self.neighbourhood.exists)[:, s]

    def _closed_around(self, data: KindsData, s: Int[Array, ""]) -> Float[Array, " K"]:
        return jnp.where(self._exists(s), data.closed[self.neighbourhood.array[s]], 1.0)

    def _message_to(self, data: KindsData, s: Int[Array, ""]) -> Float[Array, "#C"]:
        """The sum of what the states around one say of it."""
        if data.said is None:
            return jnp.zeros(1)
        return data.said[:, self.neighbourhood.array[s]] @ self._exists(s).astype(float)

    def _log_evidence(self, data: KindsData) -> Float[Array, "C S"]:
        """A state's own, and what its neighbours say."""
        if data.said is None:
            return data.evidence
        return data.evidence + messages(data.said, self.neighbourhood)

    def posterior(self, table: LocalTable) -> Posterior:
        """What is believed of every state: by its place, and by how many of a kind were found."""
        return self._posteriors(self.kinds(table), table.data)[1]

    def _posteriors(self, kinds: Kinds, data: KindsData) -> tuple[Posterior, Posterior]:
        """What the careful and the exploring plan believe; the latter knows places and counts."""
        log_weights = kinds.log_share[:, None] + self._log_evidence(data)
        weights = weigh(log_weights)
        by_place = jnp.exp(kinds.log_place - kinds.log_share[:, None])
        by_found = jnp.exp(scarcity(kinds, data.found))
        return posterior(weights), posterior(weights * by_place * by_found[:, None])

    def _believed(self, table: LocalTable) -> tuple[LocalMdp, LocalMdp, KindsData]:
        kinds = self.kinds(table)
        careful, exploring = self._posteriors(kinds, table.data)
        data = dataclasses.replace(table.data, closed=exploring.closed)
        return self._mdp(table, kinds, careful), self._mdp(table, kinds, exploring), data

    def _mdp(self, table: LocalTable, kinds: Kinds, believed: Posterior) -> LocalMdp:
        """A task whose states are of the kinds believed in."""
        reward = expected(kinds.reward, believed)
        return LocalMdp(
            moves=expected(kinds.moves, believed),
            closed=believed.closed,
            reward=jnp.where(table.entries > 0, table.mean_rewards, reward),
            goes_on=1 - expected(kinds.ends, believed),
            live=1.0 - table.ended,
            bonus=jnp.zeros_like(table.q),
        )


@dataclass(frozen=True)
class LearnedModel(KindsModel):
    """Kinds that all tasks have in common: parameters, learned from the tasks of training."""

    messages: bool
    scarcity: bool

    def init_params(self, key: PRNGKeyArray) -> LearnedPrior:
        """Kinds of which nothing is known; the key is not consumed."""
        del key
        return LearnedPrior(self._unknown, no_summary(self._unknown), jnp.int32(0))

    def kinds(self, table: LocalTable) -> Kinds:
        """Those learned so far."""
        del table
        return self._learned

    @property
    def _learned(self) -> Kinds:
        kinds = self.params.kinds if self.params else self._unknown
        if self.scarcity:
            return kinds
        return dataclasses.replace(kinds, log_scarcity=jnp.zeros_like(kinds.log_scarcity))

    def _blank(self) -> KindsData:
        blank = super()._blank()
        said = says(self._learned, blank.evidence) if self.messages else None
        return dataclasses.replace(blank, said=said)

    def summarise(self, table: LocalTable, transitions: Transitions) -> Summary:
        """What is expected of the kinds by the task's data, by places and neighbours."""
        kinds, data = self.kinds(table), table.data
        believed = posterior(weigh(kinds.log_place + self._log_evidence(data)))
        entered = table.entries > 0
        seen = Seen(data.evidence, entered, table.mean_rewards, table.ended, data.first_entries)
        return summarise(kinds, self.neighbourhood, seen, believed, transitions)

    def learn(self, summary: Summary) -> LearnedPrior:
        """Kinds fitted to all iterations, of which the latest count most."""
        so_far = self.params
        kinds, total = learn_kinds(
            so_far.kinds, so_far.total, summary, is_first=so_far.iterations == 0
        )
        return LearnedPrior(kinds, total, so_far.iterations + 1)

    def describe(self) -> list[dict[str, Any]]:
        """A row for each kind of which there are states; see `describe_kinds`."""
        return describe_kinds(self._learned)


@dataclass(frozen=True)
class PooledModel(KindsModel):
    """One kind that can be entered, known by this task's states together.

    A state never entered is worth `optimism` to the exploring plan.
    """

    optimism: float

    def _blank(self) -> KindsData:
        moves = jnp.zeros((self.num_actions, self.neighbourhood.num_moves))
        return dataclasses.replace(super()._blank(), moves=moves)

    def kinds(self, table: LocalTable) -> Kinds:
        """The kind that makes the task's outcomes likeliest."""
        entered = table.entries > 0
        count = jnp.maximum(entered.sum(dtype=float), 1)
        blank = self._unknown
        log_share = jnp.log(jnp.array([SHARE_CLOSED, 1 - SHARE_CLOSED]))
        return dataclasses.replace(
            blank,
            z_mean=blank.z_mean.at[1].set(jnp.sum(z(table.mean_rewards) * entered) / count),
            ends=blank.ends.at[1].set((table.ended.sum() + 0.05) / (count + 0.1)),
            log_share=log_share,
            log_place=jnp.broadcast_to(log_share[:, None], blank.log_place.shape),
            moves=jnp.broadcast_to(fit_moves(table.data.moves[None]), blank.moves.shape),
        )

    def _record(self, table: LocalTable, step: _Step) -> KindsData:
        kind = jnp.array([0.0, 1.0])
        closed = self._closed_around(table.data, step.s)
        moves = sets_out_for(self.kinds(table), kind, closed, step.a, step.move)[1]
        so_far: Any = table.data.moves
        data = super()._record(table, step)
        return dataclasses.replace(data, moves=so_far.at[step.a].add(moves))

    def _believed(self, table: LocalTable) -> tuple[LocalMdp, LocalMdp, KindsData]:
        careful, exploring, data = super()._believed(table)
        is_new = table.entries == 0
        exploring = exploring._replace(
            reward=jnp.where(is_new, self.optimism, exploring.reward),
            goes_on=jnp.where(is_new, 0.0, exploring.goes_on),
        )
        return careful, exploring, data


# --- making one ---------------------------------------------------------------------------------


def local_model(  # noqa: PLR0913 (a learner is made of its options)
    environment: Any,
    num_actions: int | None = None,
    prior: str = "learned",
    num_kinds: int = 8,
    discount: float = 0.97,
    sweeps_per_step: int = 6,
    optimism: float | None = None,
    *,
    radius: float = 1.0,
    messages: bool = True,
    scarcity: bool = True,
    second_plan: bool = True,
) -> LocalModel:
    """Object-level RL by planning on neighbours, where states have coordinates.

    It gives two plans: careful values `q`, and values `q_optimistic` to explore by.

    Args:
        environment: one with `state_coordinates` or `neighbours`; or neighbours themselves, a row
            of state indices for each state, the state itself first (for a displacement that leads
            nowhere the state itself again).
        num_actions: A; an environment's own unless given.
        prior: what is known before any data. "none": counts of each state and action alone.
            "pooled": actions move alike in all states of a task. "learned": states have hidden
            kinds, which all tasks share and which are learned from the tasks of training.
        num_kinds: C of "learned", the kind that cannot be entered among them.
        discount: of the object-level values, per step.
        sweeps_per_step: of each plan, on from the last values.
        optimism: of other priors than "learned": what is unknown is worth this to the exploring
            plan, in reward units; `None` is 0.
        radius: states no farther apart, by their coordinates, are neighbours.
        messages: whether a state's neighbours say something of its kind.
        scarcity: whether what was found makes more of its kind likelier or less.
        second_plan: whether there is a careful plan beside the exploring one.

    Raises:
        ConfigError: if states have no neighbours, or an argument is out of its range.
    """
    check_choice("prior", prior, PRIORS)
    is_env = hasattr(environment, "num_actions")
    neighbourhood = neighbourhood_of(environment, radius) if is_env else Neighbourhood(environment)
    if num_actions is None and not is_env:
        raise ConfigError("num_actions must be given where neighbours are")
    common: dict[str, Any] = {
        "num_states": len(neighbourhood.rows),
        "num_actions": environment.num_actions if num_actions is None else num_actions,
        "neighbours": neighbourhood.rows,
        "discount": discount,
        "sweeps_per_step": sweeps_per_step,
        "second_plan": second_plan,
    }
    if prior == "none":
        return CountedModel(**common, optimism=optimism or 0.0)
    if prior == "pooled":
        return PooledModel(**common, num_kinds=2, optimism=optimism or 0.0)
    if optimism is not None:
        raise ConfigError(
            "optimism is for prior none or pooled; prior learned knows what to expect"
        )
    return LearnedModel(**common, num_kinds=num_kinds, messages=messages, scarcity=scarcity)


def make_local_model(  # noqa: PLR0913 (each is a flag)
    env: Any,
    horizon: int,
    prior: Prior = "learned",
    num_kinds: NumKinds = 8,
    planning_discount: Probability = 0.97,
    sweeps_per_step: Size = 6,
    optimism: float | None = None,
    neighbour_radius: Positive = 1.0,
    messages: bool = True,
    scarcity: bool = True,
    second_plan: bool = True,
) -> LocalModel:
    """The learner for an environment whose states have neighbours.

    Args:
        env: the environment.
        horizon: steps of a meta-episode.
        prior: What is known before any data: none, pooled (actions move alike in all states of a
            task) or learned (hidden kinds of states, learned from the tasks of training).
        num_kinds: Kinds of states of the learned prior, one of them closed.
        planning_discount: Discount of object-level RL, per env step.
        sweeps_per_step: Sweeps of each plan per env step, on from the last values.
        optimism: Under prior none and pooled, what is unknown is worth this to the exploring plan,
            in reward units. None: 0.
        neighbour_radius: States no farther apart are neighbours, in the environment's units.
        messages: Neighbours of a state say something of its kind.
        scarcity: What was found makes more of its kind likelier or less.
        second_plan: A careful plan beside the one that explores.
    """
    del horizon
    num_states_of(env, "local_model")
    return local_model(
        env,
        None,
        prior,
        num_kinds,
        planning_discount,
        sweeps_per_step,
        optimism,
        radius=neighbour_radius,
        messages=messages,
        scarcity=scarcity,
        second_plan=second_plan,
    )
