"""`check_env` finds what is wrong with an environment, and nothing in one that is well."""

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces

from rl3jax import EnvFinding, Environment, TabularModel, Transition, check_env, make_env
from rl3jax.envs import CartPole, EnvState, PointRobot


@dataclass(frozen=True)
class Healthy(Environment):
    """Left or right with a slip, to a goal at the right end; a task is how slippery it is."""

    length: int = 4
    task_horizon: int | None = 5
    num_actions = 2
    max_successors = 2

    @property
    def num_states(self):
        return self.length

    def sample_task(self, key):
        return {"slip": jax.random.uniform(key, minval=0.2, maxval=0.5)}

    def start_index(self, key, task):
        return jnp.int32(0)

    def transition(self, key, s, action, task):
        moves = jax.random.bernoulli(key, 1 - task["slip"])
        s_next = jnp.clip(s + moves * (2 * action - 1), 0, self.length - 1)
        return Transition(s_next, self.reward(s_next), s_next == self.length - 1)

    def reward(self, s_next):
        return jnp.where(s_next == self.length - 1, 10.0, -1.0)

    def tabular(self, task):
        states = jnp.arange(self.length)
        targets = jnp.stack([states - 1, states + 1], axis=-1).clip(0, self.length - 1)
        stayed = jnp.eye(self.length)[:, None, :]
        probs = task["slip"] * stayed + (1 - task["slip"]) * jax.nn.one_hot(targets, self.length)
        return TabularModel(
            transition_probs=probs,
            mean_reward=probs @ self.reward(states),
            start=jax.nn.one_hot(0, self.length),
            terminal=states == self.length - 1,
        )


def kinds(env):
    findings = check_env(env, num_tasks=3)
    for finding in findings:
        assert "\n" not in str(finding)
        assert finding.message
        assert finding.fix
        assert "Traceback" not in str(finding)
    return [finding.kind for finding in findings]


# --- what is well ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        Healthy(),
        Healthy(task_horizon=None),
        make_env("bandit"),
        make_env("mdp", num_states=3, num_actions=2, task_horizon=4),
    ],
    ids=lambda env: type(env).__name__,
)
def test_nothing_is_found_where_nothing_is_wrong(env):
    assert check_env(env) == ()


# --- what is broken, a kind each ---------------------------------------------------------------


@struct.dataclass
class TaskState(EnvState):
    extra: Any


class KeepsExtra(Healthy):
    """A state with a field of its own, of which resets and steps say what it is."""

    def extra(self, key, task):
        raise NotImplementedError

    def reset_env(self, key, params):
        key_index, key_extra = jax.random.split(key)
        obs, state = super().reset_env(key_index, params)
        return obs, TaskState(state.time, state.index, self.extra(key_extra, params))

    def step_env(self, key, state, action, params):
        obs, after, *rest = super().step_env(key, state, action, self.seen(state, params))
        return obs, TaskState(after.time, after.index, state.extra), *rest

    def seen(self, state, task):
        return {"slip": state.extra}


@dataclass(frozen=True)
class LeaksTask(KeepsExtra):
    def extra(self, key, task):
        return task["slip"]


@dataclass(frozen=True)
class ResetChangesTask(KeepsExtra):
    def extra(self, key, task):
        return jax.random.uniform(key, minval=0.2, maxval=0.5)


@dataclass(frozen=True)
class ChangesTaskInPlace(Healthy):
    def transition(self, key, s, action, task):
        drawn = super().transition(key, s, action, task)
        task["slip"] = task["slip"] / 2
        return drawn


@dataclass(frozen=True)
class CountsFromOne(Healthy):
    def transition(self, key, s, action, task):
        drawn = super().transition(key, s, action, task)
        return drawn._replace(next_state_index=drawn.next_state_index + 1)


@dataclass(frozen=True)
class StartsBelow(Healthy):
    def start_index(self, key, task):
        return jnp.int32(-1)


@dataclass(frozen=True)
class TimeLimitTerminates(Healthy):
    task_horizon: int | None = None

    def step_env(self, key, state, action, params):
        obs, after, reward, terminated, info = super().step_env(key, state, action, params)
        return obs, after, reward, terminated | (after.time >= 5), info


@dataclass(frozen=True)
class GoalTruncates(Healthy):
    def transition(self, key, s, action, task):
        return super().transition(key, s, action, task)._replace(terminated=False)

    def is_truncated(self, state, params):
        return super().is_truncated(state, params) | (state.index == self.length - 1)


@dataclass(frozen=True)
class NeverTruncates(Healthy):
    def is_truncated(self, state, params):
        return jnp.bool_(False)


@dataclass(frozen=True)
class DriftingDtype(Healthy):
    def step_env(self, key, state, action, params):
        obs, after, *rest = super().step_env(key, state, action, params)
        return obs, after.replace(time=after.time.astype(float)), *rest


@dataclass(frozen=True)
class VectorReward(Healthy):
    def reward(self, s_next):
        return jnp.full((2,), -1.0)


DRAWS = np.random.default_rng(0)


@dataclass(frozen=True)
class PythonRandom(Healthy):
    def transition(self, key, s, action, task):
        drawn = super().transition(key, s, action, task)
        return drawn._replace(reward=drawn.reward + float(DRAWS.normal()))


COUNTER = itertools.count()


@dataclass(frozen=True)
class HostCallback(Healthy):
    def transition(self, key, s, action, task):
        drawn = super().transition(key, s, action, task)
        noise = jax.pure_callback(
            lambda _: np.float32(next(COUNTER)), jax.ShapeDtypeStruct((), jnp.float32), s,
            vmap_method="sequential",
        )  # fmt: skip
        return drawn._replace(reward=drawn.reward + noise)


@dataclass(frozen=True, eq=False)
class EqualToItselfAlone(Healthy):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclass(frozen=True)
class Unhashable(Healthy):
    weights: list[float] = field(default_factory=lambda: [1.0])


@dataclass(frozen=True)
class TooFewSlots(Healthy):
    max_successors = 1


@dataclass(frozen=True)
class OtherModel(Healthy):
    def tabular(self, task):
        return super().tabular({"slip": task["slip"] / 2})


@dataclass(frozen=True)
class OtherRewards(Healthy):
    def tabular(self, task):
        model = super().tabular(task)
        return model._replace(mean_reward=model.mean_reward + 0.1)


@dataclass(frozen=True)
class OtherStarts(Healthy):
    def tabular(self, task):
        start = jnp.array([0.5, 0.5, 0.0, 0.0])
        return super().tabular(task)._replace(start=start)


@dataclass(frozen=True)
class NoDistribution(Healthy):
    def tabular(self, task):
        model = super().tabular(task)
        return model._replace(transition_probs=model.transition_probs * 0.9)


@dataclass(frozen=True)
class InfiniteReward(Healthy):
    def reward(self, s_next):
        return 1.0 / jnp.where(s_next == 1, 0.0, 1.0)


@dataclass(frozen=True)
class BranchesOnTracer(Healthy):
    def start_index(self, key, task):
        return 0 if task["slip"] > 0.3 else 1


@dataclass(frozen=True)
class Raises(Healthy):
    def transition(self, key, s, action, task):
        return task["no such entry"]


@dataclass(frozen=True)
class UsesAKeyTwice(Healthy):
    def sample_task(self, key):
        jax.random.normal(key)
        return super().sample_task(key)


@dataclass(frozen=True)
class OneTask(Healthy):
    def sample_task(self, key):
        return {"slip": jnp.float32(0.3)}


LENGTHS = itertools.count(1)


@dataclass(frozen=True)
class TasksOfManyShapes(Healthy):
    def sample_task(self, key):
        return super().sample_task(key) | {"padding": jnp.zeros(next(LENGTHS))}


@dataclass(frozen=True)
class TooFewFeatures(Healthy):
    @property
    def state_features(self):
        return jnp.eye(self.num_states - 1)


@dataclass(frozen=True)
class LooksAlike(Healthy):
    @property
    def state_features(self):
        return jnp.ones((self.num_states, 2))


@dataclass(frozen=True)
class OwnObservation(Healthy):
    def step_env(self, key, state, action, params):
        obs, *rest = super().step_env(key, state, action, params)
        return 2 * obs, *rest


@dataclass(frozen=True)
class RestartsElsewhere(Healthy):
    def step(self, key, state, action, params=None):
        _, after, reward, terminated, truncated, info = super().step(key, state, action, params)
        index = jnp.where(terminated | truncated, 2, after.index)
        return self.state_features[index], after.replace(index=index), reward, terminated, \
            truncated, info  # fmt: skip


# --- of environments whose states are vectors ---


@dataclass(frozen=True)
class NoScales(PointRobot):
    learner_space = spaces.Box(-1.0, jnp.inf, (2,))


@dataclass(frozen=True)
class RedrawsItsGoal(PointRobot):
    variation: str = "dense"

    def start(self, key, task):
        return (jnp.zeros(2), self.sample_task(key)), jnp.zeros(2)

    def advance(self, key, inner, action, task):
        position, goal = inner
        moved = super().advance(key, position, action, goal)
        return moved._replace(inner=(moved.inner, goal))


@dataclass(frozen=True)
class WalksOutOfNumbers(PointRobot):
    def advance(self, key, inner, action, task):
        moved = super().advance(key, inner, action, task)
        return moved._replace(vector=jnp.sqrt(moved.vector))


@dataclass(frozen=True)
class PaysForEachStep(CartPole):
    when_ended: str = "restart"


BROKEN = {
    NoScales: "space",
    RedrawsItsGoal: "task-changed",
    WalksOutOfNumbers: "vector",
    PaysForEachStep: "return",
    LeaksTask: "task-in-state",
    ResetChangesTask: "task-changed",
    ChangesTaskInPlace: "task-changed",
    CountsFromOne: "index",
    StartsBelow: "index",
    TimeLimitTerminates: "termination",
    GoalTruncates: "termination",
    NeverTruncates: "termination",
    DriftingDtype: "drift",
    VectorReward: "type",
    PythonRandom: "determinism",
    HostCallback: "determinism",
    EqualToItselfAlone: "recompilation",
    Unhashable: "class",
    TooFewSlots: "slots",
    OtherModel: "model",
    OtherRewards: "model",
    OtherStarts: "model",
    NoDistribution: "model",
    InfiniteReward: "reward",
    BranchesOnTracer: "error",
    Raises: "error",
    UsesAKeyTwice: "key",
    OneTask: "task",
    TasksOfManyShapes: "task",
    TooFewFeatures: "size",
    LooksAlike: "features",
    OwnObservation: "observation",
    RestartsElsewhere: "restart",
}


@pytest.mark.parametrize(
    ("broken", "kind"), BROKEN.items(), ids=[broken.__name__ for broken in BROKEN]
)
def test_what_is_broken_is_found_and_nothing_else(broken, kind):
    assert set(kinds(broken())) == {kind}


def test_every_kind_that_is_promised_is_found_somewhere():
    table = check_env.__doc__.split("| kind")[1].split("Checks rest")[0]
    promised = {line.split("|")[1].strip() for line in table.splitlines()[2:] if "|" in line}
    assert promised == set(BROKEN.values())


@pytest.mark.parametrize("thing", [None, 3, Healthy, object()])
def test_what_is_no_environment_is_said_so(thing):
    assert kinds(thing) == ["class"]


def test_a_dataclass_that_is_not_frozen_is_said_so():
    not_frozen = dataclasses.make_dataclass("NotFrozen", [("x", int, 1)])
    assert kinds(not_frozen()) == ["class"]


def test_a_finding_reads_as_one_line():
    (finding,) = check_env(TooFewSlots(), num_tasks=3)
    assert isinstance(finding, EnvFinding)
    assert "max_successors is 1" in finding.message
    assert str(finding) == f"slots: {finding.message}. Fix: {finding.fix}."
    assert "max_successors = 2" in finding.fix
