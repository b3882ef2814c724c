"""Inputs that nobody would think of, and what must hold of any: used, or refused in one line."""

import contextlib
import dataclasses
import io
import math
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
from hypothesis import strategies as st

from rl3jax.checks import ConfigError
from rl3jax.commands import BAD_INPUT
from rl3jax.config import Config
from rl3jax.envs import ENVIRONMENTS as ENV_CLASSES
from rl3jax.files import FileError
from rl3jax.networks import NETWORKS
from rl3jax.object_level import ALGORITHMS, OBJECT_LEVEL
from rl3jax.policy import BELIEFS, HEADS
from rl3jax.trainer import make_trainer

ACCEPTED, REFUSED = "accepted", "refused"
LONGEST_LINE = 1000
LONGEST_BOX = 80  # lines of tyro's boxed errors, which show arguments whole
PATIENCE = 60  # seconds, for the slowest: a gridworld's trial draws on a busy machine


class HangError(AssertionError):
    """An input took far longer than any should."""


@contextlib.contextmanager
def time_limit(seconds: float = PATIENCE) -> Iterator[None]:
    """Raises HangError from within the body once that long has passed."""

    def on_alarm(number: int, frame: object) -> None:
        raise HangError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(function: Callable[[], Any]) -> str:
    """ACCEPTED, or REFUSED with one clear line; any other error is a failure."""
    with time_limit():
        try:
            function()
        except (ConfigError, FileError) as error:
            line = str(error)
            assert line.isprintable(), line
            assert 0 < len(line.strip()) <= LONGEST_LINE, line
            return REFUSED
    return ACCEPTED


def command_outcome(function: Callable[[], Any]) -> str:
    """The same of what ends a process: REFUSED is exit code 2, with a message on stderr alone."""
    out, err = io.StringIO(), io.StringIO()
    with time_limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _exit_code(function)
    if code == 0:
        assert "usage:" in out.getvalue()  # of --help
    elif code is not None:
        assert code == BAD_INPUT
        assert not out.getvalue()
        _check_message(err.getvalue())
        return REFUSED
    return ACCEPTED


def _exit_code(function: Callable[[], Any]) -> Any:
    """What it ends the process with; None if it returns."""
    try:
        function()
    except SystemExit as ended:
        return ended.code
    return None


def _check_message(text: str) -> None:
    lines = text.strip().splitlines()
    assert lines
    assert "Traceback" not in text, text
    if text.startswith("error: "):  # ours
        assert len(lines) == 1, text
        assert len(lines[0]) <= LONGEST_LINE, text
    else:  # tyro's box
        assert len(lines) <= LONGEST_BOX, text


# --- values ---------------------------------------------------------------------------------------

NASTY_TEXTS = (
    "", " ", "\n", "a\nb", "\t", "\x1b[31m", "é✓", "\ud800", "\u2028", "None", "True", "nan", "inf",
    "-inf", "1e400", "1e-400", "-1", "0", "1.5", "1_000", "0x10", "9" * 30, "9" * 5000, "a" * 5000,
    "-", "--", "=", "--help=1", "[]", "{}", "a b", ":", "x:", ":y", ".:y", "os:path", "no.such:Env",
    "../..", "markov,gru", "rl3 ", "RL3", "Bandit", "paper-v5", "\\", "'", '"', "%s", "$HOME",
)  # fmt: skip
NASTY_NUMBERS = (
    0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**63, 10**30, -(10**30), 10**400, -0.0, 0.5, 1.0,
    1e-320, 1e-30, 1e30, 1e300, -1e300, math.nan, math.inf, -math.inf,
)  # fmt: skip
NASTY_OTHERS = (None, True, False, [], {}, (), [1], {"a": 1}, b"a", 1j, object)

nasty = st.sampled_from([*NASTY_TEXTS, *NASTY_NUMBERS, *NASTY_OTHERS]) | st.text(max_size=8)

_SIZES = st.integers(1, 9)
_ANY = st.floats(-1e3, 1e3, width=32)
_POSITIVE = st.floats(1e-3, 1e3)
_NON_NEGATIVE = st.floats(0, 1e3)
_UNIT = st.floats(0, 1)
_FRACTION = st.sampled_from([0.25, 0.5, 0.95, 1.0])
_COUNT = st.integers(0, 3)

VALID: dict[str, st.SearchStrategy[Any]] = {
    "env": st.sampled_from(["bandit", "mdp", "gridworld", "gridnavi", "pendulum", "t-maze"]),
    "variation": st.sampled_from(["iid", "ood", "popgym-easy", "11x11", "13x13-watery", "easy"]),
    "algo": st.sampled_from(["rl2", "rl3", "rl3-coarse"]),
    "network": st.sampled_from(["markov", "gru", "mingru", "s5", "transformer"]),
    "width": st.sampled_from([8, 16]),
    "embedding": _SIZES,
    "layers": st.integers(1, 2),
    "states": _SIZES,
    "heads": st.sampled_from([1, 2, 4]),
    "object_level": st.sampled_from(["value_iteration", "q_learning", "local_model"]),
    "belief": st.sampled_from(["none", "varibad"]),
    "belief_decoder": st.sampled_from(["transitions", "states"]),
    "belief_width": _SIZES,
    "latent_size": _SIZES,
    "kl_weight": _POSITIVE,
    "belief_learning_rate": _POSITIVE,
    "decoded_beliefs": _SIZES,
    "decoded_steps": _SIZES,
    "head": st.sampled_from(["plain", "planning", "state", "hyper"]),
    "head_width": _SIZES,
    "hyper_inputs": _SIZES,
    "hyper_width": _SIZES,
    "temperature": _POSITIVE,
    "trust": st.floats(0.01, 0.99),
    "prior": st.sampled_from(["none", "pooled", "learned"]),
    "num_kinds": st.integers(2, 9),
    "neighbour_radius": _POSITIVE,
    "messages": st.booleans(),
    "scarcity": st.booleans(),
    "second_plan": st.booleans(),
    "steps_per_sweep": _SIZES,
    "optimism_weight": _NON_NEGATIVE,
    "num_frequencies": st.integers(0, 9),
    "length_scale": _POSITIVE,
    "ridge_penalty": _POSITIVE,
    "paid_for": st.sampled_from(["leaving", "entering"]),
    "reward_noise": _NON_NEGATIVE,
    "anchors_along": st.integers(2, 4),
    "bonus": _NON_NEGATIVE,
    "tiles_along": st.integers(1, 4),
    "num_prototypes": _SIZES,
    "prototype_radius": _POSITIVE,
    "squash_actions": st.booleans(),
    "preset": st.sampled_from(["paper", "paper-v4", "paper-rlc"]),
    "n_tasks": st.integers(1, 4096),
    "horizon": st.integers(1, 512),
    "iterations": _SIZES,
    "minibatches": _SIZES,
    "minibatch_tasks": _SIZES,
    "epochs": _SIZES,
    "learning_rate": _POSITIVE,
    "final_learning_rate": _NON_NEGATIVE,
    "entropy": _NON_NEGATIVE,
    "final_entropy": _NON_NEGATIVE,
    "discount": _UNIT,
    "gae_lambda": _UNIT,
    "clip": _POSITIVE,
    "kl_limit": _POSITIVE | st.just(math.inf),
    "grad_clip": _POSITIVE | st.just(math.inf),
    "weight_decay": _NON_NEGATIVE,
    "adam_epsilon": _POSITIVE,
    "planning_discount": _UNIT,
    "smoothing": _NON_NEGATIVE,
    "max_sweeps": _SIZES,
    "tolerance": _NON_NEGATIVE,
    "known_states": st.sampled_from(["all", "visited"]),
    "warm_start": st.booleans(),
    "sweeps_per_step": st.integers(0, 3),
    "successor_slots": _SIZES,
    "standard_errors": st.booleans(),
    "optimism": _ANY,
    "mean_rewards": st.booleans(),
    "cluster_size": _SIZES,
    "cluster_radius": _POSITIVE,
    "step_size": st.floats(1e-3, 1),
    "initial_value": _ANY,
    "value_scale": _POSITIVE,
    "squash_values": st.booleans(),
    "reward_scale": _NON_NEGATIVE,
    "shown": st.sampled_from(["all", "no-values", "no-counts", "estimates"]),
    "critic_scale": _POSITIVE,
    "num_arms": _SIZES,
    "num_states": _SIZES,
    "num_actions": _SIZES,
    "task_horizon": _SIZES,
    "mass_low": st.floats(0.1, 0.5),
    "mass_high": st.floats(1, 2),
    "length_low": st.floats(0.1, 0.5),
    "length_high": st.floats(1, 2),
    "force_low": st.floats(1, 5),
    "force_high": st.floats(10, 15),
    "gravity_low": st.floats(0.001, 0.002),
    "gravity_high": st.floats(0.003, 0.005),
    "length": st.integers(2, 9),
    "when_ended": st.sampled_from(["wait", "restart"]),
    "bins": st.integers(2, 9),
    # Of gridworlds few: draws from each new one are tried, which takes seconds.
    "side": st.sampled_from([5, 13]),
    "num_obstacle_sets": st.sampled_from([1, 11]),
    "obstacle_set_len": st.just(2),
    "num_water_sets": st.sampled_from([1, 5]),
    "water_set_length": st.just(2),
    "num_fatal": st.sampled_from([0, 2]),
    "min_goal_manhat": st.just(3),
    "slip": st.sampled_from([0.0, 0.2]),
    "step_reward": st.just(-1.0),
    "water_reward": st.just(-2.0),
    "warning_reward": st.just(-10.0),
    "fatal_reward": st.just(-100.0),
    "goal_reward": st.just(100.0),
    "min_optimal_return": st.just(50.0),
    "max_optimal_return": st.just(100.0),
    "devices": _SIZES,
    "rollout_chunk": _SIZES,
    "gradient_chunk": _SIZES,
    "memory_limit": _POSITIVE,
    "seed": st.integers(0, 2**32 - 1),
    "out": st.sampled_from(["runs/a", "b c", "é", "inf"]),
    "validate_every": _COUNT,
    "validation_tasks": _SIZES,
    "checkpoint_every": _SIZES,
    "draw_every": _COUNT,
}
"""Values of each field that it may have by itself."""

PARTS: dict[str, dict[str, str]] = {
    option: {registry.kind: name}
    for registry in (ENV_CLASSES, OBJECT_LEVEL, ALGORITHMS, HEADS, BELIEFS, NETWORKS)
    for name, part in reversed(registry.items())
    for option in registry.options(part)
}
"""Each option of a part, with what names the first such part."""

FIELDS = {field.name for field in dataclasses.fields(Config)} - {"options"} | PARTS.keys()
ENV_OPTIONS = {option for option, named in PARTS.items() if "env" in named}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Some fields of a config, most of them valid by themselves, one or two maybe not."""
    names = sorted(FIELDS - ENV_OPTIONS)
    values = {
        name: draw(VALID[name]) for name in draw(st.lists(st.sampled_from(names), max_size=5))
    }
    values |= draw(st.sampled_from(ENVIRONMENTS))
    bad = st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), nasty), max_size=2)
    return values | dict(draw(bad))


_GRID = {"side": 5, "num_obstacle_sets": 1, "obstacle_set_len": 2, "num_water_sets": 1}
ENVIRONMENTS: list[dict[str, Any]] = [
    {},
    {"env": "bandit", "num_arms": 3},
    {"env": "mdp", "num_states": 4, "num_actions": 3, "task_horizon": 5},
    {"env": "gridworld"},
    {"env": "cartpole", "force_low": 6.0},
    {"env": "gridnavi"},
    {"env": "t-maze", "length": 3},
    {"env": "gridworld", **_GRID, "num_fatal": 0, "min_goal_manhat": 3, "min_optimal_return": 0.0},
]


def config_outcome(values: dict[str, Any]) -> str:
    """Of the way from fields to a trainer, with nothing compiled."""
    return outcome(lambda: make_trainer(Config(**values).resolve()))


SMALL: dict[str, Any] = {"n_tasks": 4, "minibatches": 2, "horizon": 5, "width": 8, "epochs": 1}


@st.composite
def small_configs(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a config that trains within seconds, whatever of the rest is in them."""
    traced = {name: st.floats(0, 1) for name in ("entropy", "discount", "gae_lambda", "smoothing")}
    traced |= {name: st.floats(0.01, 1) for name in ("learning_rate", "clip", "grad_clip")}
    kinds = (
        "algo", "network", "object_level", "known_states", "warm_start", "standard_errors",
        "mean_rewards", "squash_values", "shown", "max_sweeps", "sweeps_per_step", "cluster_size",
    )  # fmt: skip
    rest = {name: VALID[name] for name in kinds}
    sizes = {"n_tasks": st.sampled_from([1, 2, 4]), "horizon": st.sampled_from([1, 5])}
    sizes |= {"minibatches": st.just(1), "optimism": st.floats(-1, 10)}
    optional = traced | rest | sizes
    names = draw(st.lists(st.sampled_from(sorted(optional)), max_size=8))
    chosen = {name: draw(optional[name]) for name in names}
    return {**SMALL, **draw(st.sampled_from(ENVIRONMENTS)), **chosen}


def training_outcome(values: dict[str, Any]) -> str:
    """Of one iteration, whose metrics must be finite."""

    def train() -> None:
        trainer = make_trainer(Config(**values))
        _, metrics = trainer.update(trainer.init(jax.random.key(0)))
        found = metrics.to_dict()
        assert all(map(math.isfinite, found.values())), found

    return outcome(train)
