"""`python -m rl3jax`, or `rl3jax`: lists the commands, and starts one."""

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from rl3jax.checks import check_choice
from rl3jax.commands import one_line_errors

COMMANDS = {
    "train": "meta-trains a policy into a run folder",
    "evaluate": "scores runs and classical baselines on held-out tasks",
    "render": "draws a meta-episode",
    "compare": "plots the learning curves of several runs",
    "sweep": "trains a grid of values and seeds as one program",
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command: a name and the arguments of the command of that name."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(f"rl3jax {version('rl3jax')}: RL³, RL² and their baselines\n")
        print("\n".join(f"  python -m rl3jax.{name:<10}{does}" for name, does in COMMANDS.items()))
        print("\nEach has a --help; `rl3jax train` is the same as `python -m rl3jax.train`.")
        print("First steps:\n  python -m rl3jax.train --env bandit --n-tasks 4096")
        return
    with one_line_errors():
        check_choice("command", name, COMMANDS)
    sys.argv[1:] = rest
    importlib.import_module(f"rl3jax.{name}").main()


if __name__ == "__main__":
    main()
