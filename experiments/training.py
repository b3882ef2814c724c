"""Meta-trainings as runs of `rl3jax.train`: each in a folder of its own, resumed if interrupted.

Several seeds of one training may be a run of `rl3jax.sweep` instead, which begins anew.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results import Curve, TrainingRecord
from experiments.rows import Training

LOG = "train.log"
SWEEP = "sweep.json"
LAST_POLICY = "--validate-every=0"
"""What is scored is the last policy, as in the paper; no best one is looked for."""


class TrainingError(RuntimeError):
    """A training did not end well; the message is one line."""


def command(training: Training, seed: int) -> list[str]:
    """The command line that trains it, but for the run folder."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in training.config.items()]
    if training.seeds > 1:
        return ["-m", "rl3jax.sweep", *flags, f"--seeds={training.seeds}", f"--seed={seed}"]
    return ["-m", "rl3jax.train", *flags, LAST_POLICY, f"--seed={seed}"]


def command_line(training: Training, seed: int) -> str:
    """The same as a line for a shell."""
    return shlex.join(["python", *command(training, seed)])


def run_folder(runs: Path, training: Training, seed: int) -> Path:
    """Where a training's run lies."""
    return runs / f"{training.name}-s{seed}"


def agent_folder(folder: Path) -> Path:
    """What `rl3jax.load_agent` reads: the last policy; of several seeds, that of the best."""
    return folder / ("best_agent" if (folder / SWEEP).is_file() else "agent")


def is_finished(folder: Path) -> bool:
    """Whether the run has made all its iterations and left its last checkpoint and agent."""
    if (folder / SWEEP).is_file():
        return _read_sweep(folder)["iterations"] == read_config(folder)["iterations"]
    if not (folder / "config.json").is_file() or not (folder / "agent").is_dir():
        return False
    iterations = read_config(folder)["iterations"]
    if len(read_metrics(folder)) < iterations:
        return False
    # A kill may fall between the last line and its agent. Checkpoints may be removed to save space.
    checkpoints = folder / "checkpoints"
    return (
        checkpoints / f"{iterations:08d}" / "manifest.json"
    ).is_file() or not checkpoints.is_dir()


def train(training: Training, seed: int, folder: Path) -> None:
    """Trains, or goes on where an earlier run stopped; nothing if that is finished.

    Raises:
        TrainingError: if the folder holds a run of other settings, or the training fails.
    """
    _check_same_settings(training, seed, folder)
    if is_finished(folder):
        return
    if training.seeds > 1:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [*command(training, seed), f"--out={folder}"]
    if (folder / "config.json").is_file():
        arguments = ["-m", "rl3jax.train", f"--resume={folder}"]
    one_core = {"JAX_NUM_CPU_DEVICES": "1"}  # trainings run side by side
    with (folder / LOG).open("a") as log:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=one_core | os.environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if done.returncode != 0 or not is_finished(folder):
        raise TrainingError(
            f"{folder.name} failed (exit code {done.returncode}); see {folder / LOG}"
        )


def _check_same_settings(training: Training, seed: int, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        return
    stored = read_config(folder)
    for name, value in {**training.config, "seed": seed}.items():
        if name != "preset" and stored.get(name) != value:
            raise TrainingError(
                f"{folder} was trained with {name} = {stored.get(name)!r}, this preset says "
                f"{value!r}; move it away to train anew"
            )


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved config of a run."""
    path = folder / "config.json"
    config = _read(path, json.loads)
    if not isinstance(config, dict) or not isinstance(config.get("iterations"), int):
        raise TrainingError(f"{path} is damaged: it is no config of a run")
    return config


def _read_sweep(folder: Path) -> dict[str, Any]:
    """What a run of several seeds left."""
    return _read(folder / SWEEP, json.loads)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """A line an iteration; one that a kill cut short does not count."""
    if not (folder / "metrics.jsonl").is_file():
        return []
    return _read(folder / "metrics.jsonl", _complete_lines)


def _complete_lines(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in lines]


def _read(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error


def record(training: Training, seed: int, folder: Path) -> TrainingRecord:
    """What a finished run was and cost.

    Raises:
        TrainingError: if a file of the run is damaged.
    """
    try:
        return _record(training, seed, folder)
    except (IndexError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{folder} has damaged metrics or provenance: {type(error).__name__} {error}"
        ) from error


def _record(training: Training, seed: int, folder: Path) -> TrainingRecord:
    if (folder / SWEEP).is_file():
        return _record_of_sweep(training, seed, folder)
    metrics = read_metrics(folder)
    last: Mapping[str, Any] = metrics[-1]
    return TrainingRecord(
        command=command_line(training, seed),
        env_steps=last["env_steps"],
        iterations=last["iteration"],
        seconds=sum(line["seconds"] for line in metrics),
        provenance=_read(folder / "provenance.json", json.loads)[-1],
        curve=Curve.of(
            *(
                [line[name] for line in metrics]
                for name in ("env_steps", "mean_return", "stderr_return")
            )
        ),
    )


def _record_of_sweep(training: Training, seed: int, folder: Path) -> TrainingRecord:
    sweep = _read_sweep(folder)
    returns = np.array([run["mean_return"] for run in sweep["runs"]])
    stderr = returns.std(axis=0, ddof=1) / np.sqrt(len(returns))
    return TrainingRecord(
        command=command_line(training, seed),
        env_steps=sweep["env_steps_per_iteration"] * sweep["iterations"],
        iterations=sweep["iterations"],
        seconds=sweep["seconds"],
        provenance=sweep["provenance"],
        curve=Curve.of(_env_steps(sweep), returns.mean(axis=0), stderr),
    )


def _env_steps(sweep: dict[str, Any]) -> list[int]:
    """Of a seed, by the end of each iteration."""
    return [sweep["env_steps_per_iteration"] * (i + 1) for i in range(sweep["iterations"])]


def seeds_of(folder: Path) -> list[dict[str, Any]]:
    """Of a run of several seeds: the score and the learning curve of each, ready for JSON.

    A score is the mean return of the last greedy policy on the validation tasks.
    """
    if not (folder / SWEEP).is_file():
        return []
    sweep = _read_sweep(folder)
    return [
        {
            "seed": run["seed"],
            "score": run["validation_return"],
            "env_steps": _env_steps(sweep),
            "returns": [round(mean, 3) for mean in run["mean_return"]],
        }
        for run in sweep["runs"]
    ]
