"""Whether the numbers of an iteration are finite, and which of them went wrong first."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from rl3jax.policy import ObservationLayout
from rl3jax.rollout import Trajectory


@struct.dataclass
class NonFinite:
    """Fractions of tasks with a number that is NaN or infinite, causes before effects.

    Attributes:
        reward: `[]`, of the environment.
        observation: `[D]`, each entry of what the policy saw.
        behaviour: `[P]`, parameters of the distributions that actions were drawn from.
        value: `[]`, of the critic's targets.
    """

    reward: jax.Array
    observation: jax.Array
    behaviour: jax.Array
    value: jax.Array


def non_finite(trajectory: Trajectory, value: Float[Array, "T B"]) -> NonFinite:
    """What is not finite in meta-episodes and in the critic's values of them."""

    def tasks(x: Float[Array, "T B *any"]) -> Float[Array, "*any"]:
        return jnp.mean((~jnp.isfinite(x)).any(axis=0).astype(float), axis=0)

    return NonFinite(
        reward=tasks(trajectory.reward),
        observation=tasks(trajectory.observation),
        behaviour=tasks(trajectory.behaviour),
        value=tasks(value),
    )


def first_non_finite(found: NonFinite, layout: ObservationLayout) -> str | None:
    """The first quantity that is not finite, and in what share of the tasks; `None`: all are."""
    found = jax.device_get(found)
    seen = {
        f"observation ({name})": found.observation[span] for name, span in layout.fields.items()
    }
    quantities = {"reward": found.reward, **seen, "policy": found.behaviour, "value": found.value}
    for name, tasks in quantities.items():
        if (most := np.max(tasks, initial=0.0)) > 0:
            return f"{name} is not finite in {most:.2%} of the tasks"
    return None


def decisive(diagnostics: Mapping[str, Any], parts: Iterable[str]) -> dict[str, Any]:
    """Losses and gradients' norms of the parts: those diagnostics that parameters hang on."""
    names = [f"{part}_{quantity}" for part in parts for quantity in ("loss", "grad_norm")]
    return {name: diagnostics[name] for name in names}


@jax.jit
def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number in a pytree of arrays is neither NaN nor infinite."""
    # As one array: a kernel a leaf takes five times as long to compile.
    numbers = [jnp.ravel(leaf).astype(float) for leaf in jax.tree.leaves(tree)]
    return jnp.isfinite(jnp.concatenate(numbers)).all()
