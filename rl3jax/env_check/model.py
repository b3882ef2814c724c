"""Whether what an environment does is what its `tabular` says.

What was drawn is compared with the model by bounds that hold for any number of draws; in all
comparisons of a check together they find a healthy environment wanting with probability `ERROR`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from rl3jax.env_check.findings import EnvFinding
from rl3jax.env_check.probe import Probe

Whole = int | np.integer

ERROR = 1e-6
TOLERANCE = 1e-4
"""Of sums of probabilities, and of mean rewards relative to the largest reward, in float32."""
LEAST_PROBABILITY = 1e-6
"""What is less likely in a model is taken for rounding."""
MODEL_FIX = "compute tabular from the same task by the same rules as transition and start_index"


# --- what is wrong in itself ---


def check_indices(probe: Probe) -> Iterator[EnvFinding]:
    """State indices are in range: JAX clips others without a word."""
    walk, num_states = probe.walk, probe.num_states

    def outside(name: str, index: np.ndarray) -> list[EnvFinding]:
        wrong = index[(index < 0) | (index >= num_states)]
        message = f"{name} can be {wrong[0]}, num_states is {num_states}" if len(wrong) else ""
        fix = f"number states from 0 to num_states − 1 = {num_states - 1}"
        return [EnvFinding("index", message, fix)] if len(wrong) else []

    found = [
        *outside("the state index after a reset", np.append(probe.starts, walk.index[:, 0])),
        *outside("the next state index of a step", walk.next_index.ravel()),
        *outside("state_index after a step", walk.index.ravel()),
    ]
    # States of the sample are looked up by index.
    yield from found or outside("the next state index of a step", probe.sample.s_next)


def check_rewards(probe: Probe) -> Iterator[EnvFinding]:
    """Rewards are finite."""
    wrong = probe.walk.reward[~np.isfinite(probe.walk.reward)]
    if len(wrong):
        fix = "find where a step divides by 0, overflows, or takes the logarithm of 0"
        yield EnvFinding("reward", f"a reward is {wrong[0]}", fix)


def check_distributions(probe: Probe) -> Iterator[EnvFinding]:
    """The model holds distributions and finite rewards, and no start is an end."""
    model = probe.model
    live = ~model.terminal
    for name, probs in (("transition_probs", model.transition_probs[live]), ("start", model.start)):
        if not _are_distributions(probs).all():
            message = f"{name} of tabular does not hold probabilities that sum to 1"
            yield EnvFinding("model", message, "normalise it along its last axis")
    if not np.isfinite(model.mean_reward[live]).all():
        yield EnvFinding("model", "mean_reward of tabular is not finite", MODEL_FIX)
    starts_at_end = np.argwhere(model.terminal & (model.start > 0))
    if len(starts_at_end):
        yield EnvFinding(
            "termination",
            f"episodes start in a state that is terminal: {_at(*starts_at_end[0])}",
            "start in other states, or draw tasks in which the start is none",
        )


def _are_distributions(probs: np.ndarray) -> np.ndarray:
    return (probs >= 0).all(axis=-1) & (np.abs(probs.sum(axis=-1) - 1) <= TOLERANCE)


# --- ends of episodes ---


def check_ends(probe: Probe) -> Iterator[EnvFinding]:
    """Terminal states terminate, the task horizon truncates, and nothing else does either."""
    sample = probe.sample
    terminal = probe.model.terminal[sample.task, sample.s_next]
    yield from _check_terminated(probe, sample.terminated & ~terminal)
    missed = terminal & ~sample.terminated
    if missed.any():
        i = np.flatnonzero(missed)[0]
        flag = "truncated alone" if sample.truncated[missed].all() else "not terminated"
        yield EnvFinding(
            "termination",
            f"entering a state that tabular calls terminal is flagged {flag}: "
            f"{_at(sample.task[i], sample.s_next[i])}",
            "let transition return terminated=True there, or let tabular's terminal be False",
        )
    yield from _check_truncated(probe, ~missed)


def _check_terminated(probe: Probe, wrong: np.ndarray) -> Iterator[EnvFinding]:
    """About steps that terminated though they entered no terminal state."""
    if not wrong.any():
        return
    sample, horizon = probe.sample, probe.env.task_horizon
    limit = sample.elapsed[wrong].min()
    always_then = sample.terminated[sample.elapsed >= limit].all()
    if always_then and (limit > 1 or horizon == 1):
        yield EnvFinding(
            "termination",
            f"every episode is flagged terminated after {limit} steps: a time limit truncates",
            f"set task_horizon = {limit}, and let terminated be of terminal states alone: values "
            "are bootstrapped where an episode is cut off",
        )
        return
    i = np.flatnonzero(wrong)[0]
    yield EnvFinding(
        "termination",
        "entering a state is flagged terminated, but tabular does not call it terminal: "
        f"{_at(sample.task[i], sample.s_next[i])}",
        "let transition and tabular agree; that a state is terminal must not depend on how it is "
        "entered",
    )


def _check_truncated(probe: Probe, considered: np.ndarray) -> Iterator[EnvFinding]:
    """Truncated is what took `task_horizon` steps."""
    sample, horizon = probe.sample, probe.env.task_horizon
    is_up = np.zeros(len(sample.s), bool) if horizon is None else sample.elapsed >= horizon
    wrong = considered & (sample.truncated != is_up)
    if wrong.any():
        i = np.flatnonzero(wrong)[0]
        is_not = "" if sample.truncated[i] else "not "
        yield EnvFinding(
            "termination",
            f"an episode is {is_not}truncated after {sample.elapsed[i]} steps, task_horizon is "
            f"{horizon}",
            "leave is_truncated to the base class, and set task_horizon to the time limit",
        )


def check_restarts(probe: Probe) -> Iterator[EnvFinding]:
    """After an episode's end the state is a start, after any other step the one just entered."""
    walk, model = probe.walk, probe.model
    tasks = np.arange(probe.num_tasks)[:, None]
    is_start = model.start > 0
    is_start[tasks, probe.starts] = True
    after = walk.index[:, 1:]
    for wrong, message in (
        (walk.done & ~is_start[tasks, after], "does not restart though its episode ended"),
        (~walk.done & (after != walk.next_index), 'is not in info["next_state_index"]'),
    ):
        if wrong.any():
            yield EnvFinding(
                "restart",
                f"the state after a step {message}: {_at(*_first(wrong, after))}",
                "leave step, which restarts finished episodes by reset_env, to the base class, or "
                "do as it does",
            )


def _first(wrong: np.ndarray, index: np.ndarray) -> tuple[int, int]:
    """The task and the state index of the first step that is wrong."""
    task, step = np.argwhere(wrong)[0]
    return int(task), int(index[task, step])


# --- chances and mean rewards ---


def check_starts(probe: Probe) -> Iterator[EnvFinding]:
    """Resets start where the model says, as often as it says."""
    start = probe.model.start
    seen = np.stack([np.bincount(row, minlength=probe.num_states) for row in probe.starts])
    n = seen.sum(axis=1, keepdims=True)
    wrong = _wrong_share(seen, n * start, n)
    if wrong is not None:
        share = seen[wrong] / n[wrong[0], 0]
        yield EnvFinding(
            "model",
            f"tabular's start is not where episodes start: {_at(*wrong)} has probability "
            f"{start[wrong]:.3g}, {share:.3g} of {n[wrong[0], 0]} episodes started there",
            MODEL_FIX,
        )


def check_transitions(probe: Probe) -> Iterator[EnvFinding]:
    """Steps lead where the model says, as often as it says: in each task, and in all together."""
    size = (probe.num_states, probe.num_actions)
    all_seen, all_expected, all_n = np.zeros((*size, size[0])), np.zeros(1), np.zeros(1)
    for task, probs in enumerate(probe.model.transition_probs):
        seen = _counts(probe, task)
        n = seen.sum(axis=-1, keepdims=True)
        yield from (found := list(_check_shares(seen, n * probs, n, task)))
        if found:
            return
        all_seen, all_expected, all_n = all_seen + seen, all_expected + n * probs, all_n + n
    yield from _check_shares(all_seen, all_expected, all_n, task=None)


def _check_shares(
    seen: np.ndarray, expected: np.ndarray, n: np.ndarray, task: int | None
) -> Iterator[EnvFinding]:
    wrong = _wrong_share(seen, expected, n)
    if wrong is not None:
        s, a, s_next = wrong
        total = n[s, a, 0]
        yield EnvFinding(
            "model",
            f"transition does not lead where tabular says: to state {s_next} from "
            f"{_at(task, s, a)} with probability {expected[wrong] / total:.3g}, but "
            f"{seen[wrong]:.0f} of {total:.0f} times",
            MODEL_FIX,
        )


def _counts(probe: Probe, task: int) -> np.ndarray:
    """`[S, A, S]`, how often each transition was drawn in a task."""
    shape = (probe.num_states, probe.num_actions, probe.num_states)
    sample = probe.sample
    here = sample.task == task
    flat = np.ravel_multi_index((sample.s[here], sample.a[here], sample.s_next[here]), shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def _wrong_share(seen: np.ndarray, expected: np.ndarray, n: np.ndarray) -> tuple[int, ...] | None:
    """Where `seen` of `n` is too far from what was expected for chance; the farthest.

    A share q of n independent draws, expected to be p, has n·KL(q ‖ p) above x with probability at
    most 2·exp(−x) (Chernoff; Hoeffding 1963 for draws that are not alike).
    """
    n = np.maximum(n, 1)
    q, p = seen / n, np.clip(expected / n, 0.0, 1.0)
    surprise = n * (rel_entr(q, p) + rel_entr(1 - q, 1 - p))
    # As many draws as one likes: a model in float32 is no better than this.
    surprise = np.where(np.abs(q - p) <= TOLERANCE, 0.0, surprise)
    surprise = np.where((expected <= 0) & (seen > 0), np.inf, surprise)
    worst = np.unravel_index(np.argmax(surprise), surprise.shape)
    bound = np.log(2 * surprise.size / ERROR)
    return tuple(int(i) for i in worst) if surprise[worst] > bound else None


def check_mean_rewards(probe: Probe) -> Iterator[EnvFinding]:
    """Rewards are on average what the model says: exactly, if none is random, else up to chance."""
    sample, size = probe.sample, (probe.num_tasks, probe.num_states, probe.num_actions)
    reward = sample.reward.astype(float)
    tolerance = TOLERANCE * max(np.abs(reward).max(), TOLERANCE)
    pair = np.ravel_multi_index((sample.task, sample.s, sample.a), size)
    paid = _grouped(pair * probe.num_states + sample.s_next, reward)
    if (paid.variance <= tolerance**2).all():
        wrong = _wrong_sums(probe, pair, paid, tolerance)
    else:
        surplus = reward - probe.model.mean_reward.ravel()[pair]
        wrong = [
            i
            for ids in (pair, pair % (size[1] * size[2]))
            for i in _wrong_means(_grouped(ids, surplus), np.ptp(surplus), tolerance)
        ]
    if len(wrong):
        i = wrong[0]
        same = pair == pair[i]
        yield EnvFinding(
            "model",
            f"mean_reward of tabular is {probe.model.mean_reward.ravel()[pair[i]]:.4g} for "
            f"{_at(sample.task[i], sample.s[i], sample.a[i])}; rewards there were on average "
            f"{reward[same].mean():.4g} in {same.sum()} draws",
            "let mean_reward be the mean over next states and noise of what transition pays",
        )


class _Groups(NamedTuple):
    """Draws with one id each; `first` is the index of one of them."""

    first: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def _grouped(ids: np.ndarray, values: np.ndarray) -> _Groups:
    _, first, member, n = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(member, values) / n
    return _Groups(first, n, mean, np.bincount(member, (values - mean[member]) ** 2) / n)


def _wrong_sums(probe: Probe, pair: np.ndarray, paid: _Groups, tolerance: float) -> list[np.intp]:
    """Draws of pairs that are not worth the sum over next states, all drawn, of what these paid."""
    sample, first = probe.sample, paid.first
    of_pair = (sample.task[first], sample.s[first], sample.a[first])
    prob = probe.model.transition_probs[(*of_pair, sample.s_next[first])].astype(float)
    size = pair.max() + 1
    mass = np.bincount(pair[first], prob, size)[pair[first]]
    mean = np.bincount(pair[first], prob * paid.mean, size)[pair[first]]
    error = np.abs(mean - probe.model.mean_reward[of_pair])
    return list(first[(mass >= 1 - TOLERANCE) & (error > 2 * tolerance)])


def _wrong_means(surplus: _Groups, span: float, tolerance: float) -> list[np.intp]:
    """Draws of groups whose mean is too far from 0 for chance (empirical Bernstein bound)."""
    x = np.log(3 * len(surplus.n) / ERROR)
    chance = np.sqrt(2 * surplus.variance * x / surplus.n) + 3 * span * x / surplus.n
    return list(surplus.first[np.abs(surplus.mean) > chance + tolerance])


# --- slots ---


def check_slots(probe: Probe) -> Iterator[EnvFinding]:
    """No pair has more next states than `max_successors`."""
    slots = probe.env.max_successors
    if slots is None:
        return
    listed = (probe.model.transition_probs > LEAST_PROBABILITY).sum(axis=-1)
    listed = np.where(probe.reachable[..., None], listed, 0)
    drawn = np.zeros_like(listed)
    for task in range(probe.num_tasks):
        drawn[task] = (_counts(probe, task) > 0).sum(axis=-1)
    for name, count in (("in tabular", listed), ("among its draws", drawn)):
        if count.max() > slots:
            where = np.unravel_index(np.argmax(count), count.shape)
            yield EnvFinding(
                "slots",
                f"{_at(*where)} has {count.max()} next states {name}, max_successors is {slots}",
                f"set max_successors = {count.max()}, or None for as many as states",
            )
            return


def _at(task: Whole | None, s: Whole, a: Whole | None = None) -> str:
    action = "" if a is None else f", action {a}"
    return f"state {s}{action}{'' if task is None else f' of task {task}'}"
