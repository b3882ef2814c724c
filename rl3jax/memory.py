"""Stub until the branch `memory` is merged."""

from rl3jax.trainer import Trainer


def check_memory(trainer: Trainer, runs: int = 1) -> str:
    return "memory: not checked"
