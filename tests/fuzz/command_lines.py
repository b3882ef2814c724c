"""Random argument lists of the commands, and what they come to before anything is run."""

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from hypothesis import strategies as st

from rl3jax import compare, drawing, evaluate, render, sweep, train
from rl3jax.commands import one_line_errors, parse
from rl3jax.trainer import config_env, make_trainer
from tests.fuzz.inputs import ENV_OPTIONS, FIELDS, NASTY_TEXTS, VALID, command_outcome

CommandLine = tuple[str, list[str]]
"""A command's name and its arguments."""

VALID_LINES = {
    "train": (
        "",
        "--env bandit --algo rl2 --network gru --n-tasks 96 --minibatches 3 --horizon 40",
        "--env mdp --preset paper-v4 --horizon 500 --learning-rate 1e-3 --entropy 0.02 --seed 7",
        "--env mdp --num-states 4 --num-actions 3 --task-horizon 5 --optimism 2 --warm-start True",
        "--env gridworld --variation 11x11 --algo rl3-coarse --cluster-size 3 --network gru",
        "--env gridworld --side 5 --num-obstacle-sets 1 --obstacle-set-len 2 --num-water-sets 1 "
        "--num-fatal 0 --min-goal-manhat 3 --min-optimal-return 0",
        "--resume runs/none --iterations 9 --devices 1 --log tensorboard",
        "--init-from runs/none --coordinator a:1 --num-processes 2 --process-id 0 --grad-clip inf",
    ),
    "evaluate": (
        "--env bandit --horizon 20 --baselines random optimal --n-tasks 5",
        "runs/none --policy best --variation ood --batch-size 3",
        "bandit-h100-rl3 bandit-h500-rl3 --horizon 20 --n-tasks 5",
        "bandit-h100-rl3 --baselines random thompson --horizon 50",
        "--env mdp --baselines random psrl-prior-0",
    ),
    "render": (
        "bandit-h100-rl3 --out a.gif --against bandit-h500-rl3 --task 3 --fps 4",
        "runs/none --out b.png --policy best --actions sampled --horizon 20 --every 2 --dpi 50",
    ),
    "compare": ("runs/none runs/other --out a.png", "runs/none"),
    "sweep": (
        "--env bandit --seeds 2 --grid learning_rate=1e-3,2e-3 entropy=0.01,0.03",
        "--env mdp --algo rl2 --seed 5 --n-tasks 64 --grid discount=0.9,1",
        "--n-tasks 8 --horizon 5 --seeds 3",
        "--env gridworld --variation 13x13 --seeds 1 --grid entropy=0",
    ),
}

FLAGS = [f"--{name.replace('_', '-')}" for name in sorted(FIELDS)]
OTHER_FLAGS = [
    "--log", "--resume", "--init-from", "--seeds", "--grid", "--baselines", "--policy", "--out",
    "--against", "--task", "--fps", "--every", "--dpi", "--actions", "--batch-size",
    "--process-id", "--num-processes", "--coordinator", "--help", "-h", "--no-such-flag",
    "--n-task",
    "--config.env", "--warm-start", "--no-warm-start", "---", "--",
]  # fmt: skip
GRIDS = [
    "learning_rate", "learning_rate=", "=1", "discount=2", "clip=nan", "clip=inf,inf", "seed=1,2",
    "n_tasks=3", "learning_rate=1e-3,x", "entropy=0.1,0.1", "entropi=1", "clip=1,inf", "clip=1e99",
]  # fmt: skip

flags = st.sampled_from(FLAGS) | st.sampled_from(OTHER_FLAGS)
nasty_tokens = (
    st.sampled_from(NASTY_TEXTS)
    | st.sampled_from(GRIDS)
    | st.text(st.characters(exclude_characters="\0"), max_size=6)
)


@st.composite
def fields(draw: st.DrawFn, valid: bool) -> list[str]:
    """A flag of a config with a value that is valid by itself, or any; as one token or as two."""
    name = draw(st.sampled_from(sorted(FIELDS - ENV_OPTIONS if valid else FIELDS)))
    flag = f"--{name.replace('_', '-')}"
    value = draw(VALID[name].map(str) if valid else nasty_tokens)
    return draw(st.sampled_from([[flag, value], [f"{flag}={value}"]]))


@st.composite
def mutated(draw: st.DrawFn, arguments: Sequence[str]) -> list[str]:
    """The arguments after a few mishaps."""
    mutants = list(arguments)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 5]))):
        i = draw(st.integers(0, max(len(mutants) - 1, 0)))
        there = mutants[i : i + 1]
        replacement = {
            "drop": [],
            "double": there * 2,
            "move": [],
            "cut": [token[: len(token) // 2] for token in there],
            "join": ["=".join(mutants[i : i + 2])],
            "replace": [draw(nasty_tokens | flags)],
            "insert": [draw(nasty_tokens | flags), *there],
            "field": [*there, *draw(fields(valid=True))],
            "another field": [*there, *draw(fields(valid=True))],
            "bad field": [*there, *draw(fields(valid=False))],
        }
        what = draw(st.sampled_from(list(replacement)))
        mutants[i : i + (2 if what == "join" else 1)] = replacement[what]
        if what == "move":
            mutants.extend(there)
    return mutants


@st.composite
def command_lines(draw: st.DrawFn) -> CommandLine:
    """One of the commands, with valid arguments or with some that are not."""
    command = draw(st.sampled_from(list(VALID_LINES)))
    line = draw(st.sampled_from(VALID_LINES[command]))
    return command, draw(mutated(shlex.split(line)))


def command_line_outcome(line: CommandLine) -> str:
    """Of parsing, and of all checks before anything is run or written."""
    command, argv = line
    args_type, check = CHECKS[command]

    def start() -> None:
        args = parse(args_type, argv, command)
        with one_line_errors():
            check(args)

    return command_outcome(start)


def _train(args: train.TrainArgs) -> None:
    if args.resume is not None:
        with ExitStack() as held:
            train._resume(args, held)
    make_trainer(args.config)


def _sweep(args: sweep.SweepArgs) -> None:
    _, batch = sweep._plan(args)
    for config in batch.configs:
        make_trainer(dataclasses.replace(config, devices=1))


def _evaluate(args: evaluate.EvaluateArgs) -> None:
    config = evaluate._config(args)
    env = config_env(config)
    evaluate._contenders(args, config, env, evaluate._agents(args, env))


def _render(args: render.RenderArgs) -> None:
    render._check_numbers(args)
    if args.out is not None:
        drawing.check_path(args.out)
    render._contenders(args)


def _compare(args: compare.CompareArgs) -> None:
    compare._read(args)


CHECKS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "train": (train.TrainArgs, _train),
    "evaluate": (evaluate.EvaluateArgs, _evaluate),
    "render": (render.RenderArgs, _render),
    "sweep": (sweep.SweepArgs, _sweep),
    "compare": (compare.CompareArgs, _compare),
}
