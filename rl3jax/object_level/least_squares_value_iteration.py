"""Object-level RL by least-squares value iteration on Fourier features, with a bonus."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.object_level.base import Estimates
from rl3jax.object_level.fourier import FourierFeatures
from rl3jax.object_level.regression import Posterior, observe, ridge, uncertainty, visits
from rl3jax.object_level.vector import VectorLearner, scales_of
from rl3jax.ranges import Count, NonNegative, Positive, Probability, Size


@struct.dataclass
class LeastSquaresTable:
    """What is kept of a task: T transitions, and what is fitted to them.

    Attributes:
        models: of each action, by its features alone.
        weights: `[A, p, 2]`, of Q and Q⁺.
        features, next_features: `[T, p]`, of the states left and entered.
        next_uncertainty: `[A, T]`, x of each action in the states entered.
        action: `[T]` int32, reward: `[T]`, goes_on: `[T]`, 1 unless the episode ended there.
        number: int32, of transitions taken in.
        value_range: `[2]`, the least and the largest value that rewards so far allow.
    """

    models: Posterior
    weights: jax.Array
    features: jax.Array
    next_features: jax.Array
    next_uncertainty: jax.Array
    action: jax.Array
    reward: jax.Array
    goes_on: jax.Array
    number: jax.Array
    value_range: jax.Array


@dataclass(frozen=True)
class LeastSquaresValueIteration(VectorLearner):
    """Values that are linear in features; see `least_squares_value_iteration`."""

    capacity: Size
    discount: Probability
    bonus: NonNegative
    optimism: float
    steps_per_sweep: Size
    num_frequencies: Count
    length_scale: Positive
    ridge_penalty: Positive

    @cached_property
    def phi(self) -> FourierFeatures:
        """The features of a scaled state."""
        return FourierFeatures(self.num_dims, self.num_frequencies, self.length_scale)

    def init(self) -> LeastSquaresTable:
        """No data, weights of 0."""
        T, A, p = self.capacity, self.num_actions, self.phi.size
        return LeastSquaresTable(
            models=ridge(A, p, 0, self.ridge_penalty),
            weights=jnp.zeros((A, p, 2)),
            features=jnp.zeros((T, p)),
            next_features=jnp.zeros((T, p)),
            next_uncertainty=jnp.zeros((A, T)),
            action=jnp.zeros(T, jnp.int32),
            reward=jnp.zeros(T),
            goes_on=jnp.zeros(T),
            number=jnp.int32(0),
            value_range=jnp.array([0.0, max(self.optimism, 0.0)]),
        )

    def update(
        self,
        table: LeastSquaresTable,
        s: Float[ArrayLike, " D"],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Float[ArrayLike, " D"],
        terminated: Bool[ArrayLike, ""],
    ) -> LeastSquaresTable:
        """Keeps the transition; every few steps, values are fitted to all of them, once."""
        phi, phi_next = self.phi(self.scaled(s)), self.phi(self.scaled(s_next))
        r = jnp.asarray(r, phi.dtype)
        model = jax.tree.map(lambda x: x[a], table.models)
        model, gain = observe(model, phi, jnp.zeros(0, phi.dtype))
        models = jax.tree.map(lambda old, new: old.at[a].set(new), table.models, model)
        # What was entered before loses uncertainty as the posterior does.
        lost = jnp.square(table.next_features @ gain.weights) * gain.variance
        x = table.next_uncertainty.at[a].add(-lost)
        t = table.number
        table = dataclasses.replace(
            table,
            models=models,
            features=table.features.at[t].set(phi),
            next_features=table.next_features.at[t].set(phi_next),
            next_uncertainty=x.at[:, t].set(uncertainty(models.root, phi_next)),
            action=table.action.at[t].set(a),
            reward=table.reward.at[t].set(r),
            goes_on=table.goes_on.at[t].set(1 - jnp.asarray(terminated, phi.dtype)),
            number=t + 1,
            value_range=self._range_with(table.value_range, r),
        )
        # Where all tasks are at the same step, as in a rollout, this is a choice under vmap too.
        is_due = table.number % self.steps_per_sweep == 0
        return jax.lax.cond(is_due, self._fit, lambda table: table, table)

    def _range_with(self, value_range: Float[Array, " 2"], r: Float[Array, ""]) -> Array:
        """Of values, as long as no reward lies beyond those met: of a task without end, or with."""
        steps = 1 / (1 - self.discount) if self.discount < 1 else self.capacity
        least, most = value_range
        return jnp.stack([jnp.minimum(least, r * steps), jnp.maximum(most, r * steps)])

    def _fit(self, table: LeastSquaresTable) -> LeastSquaresTable:
        """The table with weights by the values of the states entered."""
        q = self._values(table, table.next_features, table.next_uncertainty)
        v = table.goes_on[:, None] * q.max(axis=0)
        targets = table.reward[:, None] + self.discount * v

        def weights(a: Array, root: Float[Array, "p p"]) -> Float[Array, "p 2"]:
            is_own = (table.action == a) & (jnp.arange(self.capacity) < table.number)
            sums = (table.features * is_own[:, None]).T @ targets
            return root @ (root.T @ sums)

        actions = jnp.arange(self.num_actions)
        return dataclasses.replace(table, weights=jax.vmap(weights)(actions, table.models.root))

    def _values(
        self, table: LeastSquaresTable, features: Float[Array, "k p"], x: Float[Array, "A k"]
    ) -> Float[Array, "A k 2"]:
        """Q and Q⁺, which has a bonus for what is uncertain."""
        q = jnp.einsum("kp,apn->akn", features, table.weights)
        bonus = self.bonus * jnp.sqrt(jnp.maximum(x, 0))
        q = q + jnp.stack([jnp.zeros_like(bonus), bonus], axis=-1)
        return jnp.clip(q, *table.value_range)

    def estimates(self, table: LeastSquaresTable, s: Float[ArrayLike, " D"]) -> Estimates:
        """The last fit's values of state `s`."""
        features = self.phi(self.scaled(s))
        x = uncertainty(table.models.root, features)
        q = self._values(table, features[None], x[:, None])[:, 0]
        q = jnp.where(self.overflowed(table), jnp.nan, q)
        return Estimates(
            q=q[:, 0],
            visits=jnp.round(visits(x, self.ridge_penalty)).astype(jnp.int32),
            q_optimistic=q[:, 1],
        )

    def overflowed(self, table: LeastSquaresTable) -> Bool[ArrayLike, ""]:
        """Whether there were more transitions than `capacity`."""
        return table.number > self.capacity


def least_squares_value_iteration(  # noqa: PLR0913 (a learner is made of its options)
    low: Any,
    high: Any,
    num_actions: int,
    capacity: int,
    discount: float = 0.98,
    bonus: float = 1.0,
    optimism: float = 0.0,
    steps_per_sweep: int = 5,
    *,
    num_frequencies: int = 64,
    length_scale: float = 1.5,
    ridge_penalty: float = 0.01,
) -> LeastSquaresValueIteration:
    """Object-level RL by LSVI-UCB (Jin, Yang, Wang and Jordan 2020), for vector states.

    On features phi as of `linear_model`, each action's weights w = (Gram matrix + ridge_penalty)⁻¹
    Σ phi · (r + discount · max Q⁺(s')), Q⁺ = phiᵀ w + bonus · √x, x = phiᵀ (Gram matrix +
    ridge_penalty)⁻¹ phi; Q is fitted likewise without a bonus. Values are clipped to what the
    rewards met so far allow for ever: without that they diverge. All transitions are kept.

    Args:
        low: of each of the D numbers of a state, what is −1 on its scale.
        high: likewise, what is 1.
        num_actions: A.
        capacity: transitions kept at most; after more, estimates are NaN.
        discount: of the object-level values, per step.
        bonus: in reward units.
        optimism: a value that Q⁺ may reach before any reward was met, in reward units.
        steps_per_sweep: updates between two fits, each from the last one's values.
        num_frequencies: F.
        length_scale: on which values change, where a state goes from −1 to 1.
        ridge_penalty: precision of the weights before any data, in visits.

    Raises:
        ConfigError: if an argument is out of its range.
    """
    return LeastSquaresValueIteration(
        low,
        high,
        num_actions,
        capacity=capacity,
        discount=discount,
        bonus=bonus,
        optimism=optimism,
        steps_per_sweep=steps_per_sweep,
        num_frequencies=num_frequencies,
        length_scale=length_scale,
        ridge_penalty=ridge_penalty,
    )


def make_least_squares_value_iteration(
    env: Any,
    horizon: int,
    planning_discount: Probability = 0.98,
    bonus: NonNegative = 1.0,
    optimism: float = 0.0,
    steps_per_sweep: Size = 5,
    num_frequencies: Count = 64,
    length_scale: Positive = 1.5,
    ridge_penalty: Positive = 0.01,
) -> LeastSquaresValueIteration:
    """The learner for an environment whose states are vectors.

    Args:
        env: the environment.
        horizon: steps of a meta-episode, all of which are kept.
        planning_discount: Discount of object-level RL, per env step.
        bonus: Of the optimistic values, for each standard deviation of a value, in reward units.
        optimism: What optimistic values may reach before any reward was met, in reward units.
        steps_per_sweep: Env steps between two fits of the values.
        num_frequencies: Fourier features of a state.
        length_scale: On which values change, where states go from -1 to 1.
        ridge_penalty: Precision of the weights before any data, in visits.
    """
    return least_squares_value_iteration(
        *scales_of(env, "least_squares_value_iteration"),
        horizon,
        planning_discount,
        bonus,
        optimism,
        steps_per_sweep,
        num_frequencies=num_frequencies,
        length_scale=length_scale,
        ridge_penalty=ridge_penalty,
    )
