"""What is to be said of environments whose states are vectors, beside what holds of all."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnax.environments import spaces

from rl3jax.env_check.findings import EnvFinding
from rl3jax.env_check.interface import expect, expect_step, is_size, is_step
from rl3jax.env_check.probe import Probe
from rl3jax.ranges import box_ends


def check_spaces(probe: Probe) -> Iterator[EnvFinding]:
    """States and actions have finite scales, and the time limit is one."""
    horizon = probe.get("task_horizon")
    if horizon is not None and not is_size(horizon):
        message = f"task_horizon is {horizon!r}, not a whole number of at least 1 or None"
        yield EnvFinding("size", message, "set it to the steps of an episode, or None")
    states, actions = probe.get("learner_space"), probe.call("action_space", probe.env.action_space)
    yield from _check_box("learner_space", states)
    if not isinstance(actions, spaces.Discrete):
        yield from _check_box("action_space", actions)


def _check_box(name: str, space: Any) -> Iterator[EnvFinding]:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        message = f"{name} is {space!r}, not a spaces.Box of vectors"
        yield EnvFinding("space", message, "flatten what it holds, and give its two ends")
        return
    low, high = box_ends(space)
    wrong = ~(np.isfinite(low) & np.isfinite(high) & (low < high) & (np.abs(high - low) < 1e30))
    if wrong.any():
        i = np.flatnonzero(wrong)[0]
        yield EnvFinding(
            "space",
            f"{name} has no finite scale in dimension {i}: {low[i]:.3g} to {high[i]:.3g}",
            "give it the ends of what is usual there; vectors may lie beyond them",
        )


def check_reset_and_step(probe: Probe) -> Iterator[EnvFinding]:
    """What gymnax's interface returns, and the vectors that learners see of it."""
    shape = probe.env.learner_space.shape
    _, state = probe.shape_of("reset", probe.key, probe.task)
    yield from expect("learner_state", probe.shape_of("learner_state", state), shape, "a float")
    stepped = probe.shape_of("step", probe.key, state, probe.action, probe.task)
    yield from expect_step(stepped)
    if is_step(stepped):
        info = {k: v for k, v in stepped[5].items() if v is not None}
        entered = probe.shape_of("entered_state", info)
        yield from expect("entered_state", entered, shape, "a float")


def check_finite(probe: Probe) -> Iterator[EnvFinding]:
    """Vectors and rewards are numbers."""
    walk = probe.walk
    for kind, name, numbers in (
        ("vector", "learner_state", walk.index),
        ("vector", "entered_state", walk.next_index),
        ("reward", "a reward", walk.reward),
    ):
        if not np.isfinite(numbers).all():
            task = np.argwhere(~np.isfinite(numbers))[0][0]
            yield EnvFinding(
                kind,
                f"{name} is not finite in random play of task {task}",
                "bound what grows without end, and divide by nothing that may be 0",
            )


def check_ends(probe: Probe) -> Iterator[EnvFinding]:
    """The task horizon truncates, and nothing else does; an episode that goes on moves on."""
    walk, horizon = probe.walk, probe.env.task_horizon
    is_up = np.zeros_like(walk.truncated) if horizon is None else probe.elapsed >= horizon
    if (wrong := walk.truncated != is_up).any():
        first = tuple(np.argwhere(wrong)[0])
        is_not = "" if walk.truncated[first] else "not "
        yield EnvFinding(
            "termination",
            f"an episode is {is_not}truncated after {probe.elapsed[first]} steps, task_horizon is "
            f"{horizon}",
            "leave is_truncated to the base class, and set task_horizon to the time limit",
        )
    if (walk.index[:, 1:] != walk.next_index)[~walk.done].any():
        yield EnvFinding(
            "restart",
            "the state after a step is not the one that it led to, though no episode ended",
            "let entered_state give what learner_state gives of the state before any restart",
        )


def check_actions_matter(probe: Probe) -> Iterator[EnvFinding]:
    """There is something to gain: rewards are not all the same, step by step, whatever is done."""
    reward = probe.walk.reward
    if not probe.env.waits and (reward == reward[0, 0]).all() and reward[0, 0] != 0:
        yield EnvFinding(
            "return",
            f"each step of random play paid {reward[0, 0]:g}, whatever was done, so that no action "
            "changes the return of a budget of steps",
            "let ended episodes wait for their time limit at reward 0, and not restart at once",
        )
