"""What a run is: `Config`, the options of its parts, the papers' presets, and the flags."""

from rl3jax.config.config import Config, Hyperparams, Resolved

__all__ = ["Config", "Hyperparams", "Resolved"]
