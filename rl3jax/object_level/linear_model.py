"""Object-level RL by planning in a linear model on Fourier features: for physics."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from rl3jax.checks import check_choice
from rl3jax.object_level.anchors import Anchors, anchors_for
from rl3jax.object_level.base import Estimates, Transitions
from rl3jax.object_level.fourier import FourierFeatures
from rl3jax.object_level.linear_prior import (
    LEAST_NOISE,
    LinearSummary,
    Shared,
    learn_shared,
    nothing_shared,
    summarise_task,
)
from rl3jax.object_level.regression import Posterior, observe_one, ridge, uncertainty, visits
from rl3jax.object_level.vector import VectorLearner, scales_of
from rl3jax.ranges import Count, NonNegative, OneOf, Positive, Probability, Size

PRIORS = ("none", "learned")
Prior = Annotated[str, OneOf(PRIORS)]
PAID_FOR = ("leaving", "entering")
PaidFor = Annotated[str, OneOf(PAID_FOR)]
SWEEPS_OF_PRIOR = 300
"""Of the plan by what all tasks have in common."""


@struct.dataclass
class LinearTable:
    """What a linear model keeps of a task.

    Attributes:
        models: of each action: the regression of (displacement, reward, terminated) on features of
            the state that it leaves. Without rewards, if those are paid for entering a state.
        uncertainty: `[A, m]`, x of each action at each anchor.
        values: `[m, 2]`, V and V⁺ of the anchors, in reward units.
        next_anchor: int32, where planning goes on.
        rewards: `[1]`, that of rewards on features of the state that is entered; or empty.
        paid: `[m, 2]`, by that, the reward for entering the anchors, and x of it; or empty.
    """

    models: Posterior
    uncertainty: jax.Array
    values: jax.Array
    next_anchor: jax.Array
    rewards: Any = ()
    paid: Any = ()


@dataclass(frozen=True)
class LinearModel(VectorLearner):
    """Regression of every action's effect, and a plan on anchors; see `linear_model`."""

    discount: Probability
    steps_per_sweep: Size
    optimism: float
    optimism_weight: NonNegative
    num_frequencies: Count
    length_scale: Positive
    ridge_penalty: Positive
    anchors_along: Size | None
    standard_errors: bool
    paid_for: str = "leaving"
    reward_noise: NonNegative = 0.0

    @cached_property
    def phi(self) -> FourierFeatures:
        """The features of a scaled state."""
        return FourierFeatures(self.num_dims, self.num_frequencies, self.length_scale)

    @cached_property
    def anchors(self) -> Anchors:
        """Where values are kept, in scaled states."""
        return anchors_for(self.num_dims, self.anchors_along)

    @property
    def _places(self) -> tuple[Float[Array, "m D"], Float[Array, "m p"]]:
        """The anchors and their features."""
        places = jnp.asarray(self.anchors.points, float)
        return places, self.phi(places)

    def init(self) -> LinearTable:
        """No data: all weights are 0, and so are values; optimistic ones are the optimism."""
        entering, size, penalty = self.paid_for == "entering", self.phi.size, self.ridge_penalty
        num_outputs = self.num_dims + (1 if entering else 2)
        models = ridge(self.num_actions, size, num_outputs, penalty)
        return self._table(models, ridge(1, size, 1, penalty) if entering else ())

    def _table(self, models: Posterior, rewards: Any) -> LinearTable:
        """That of models with which nothing was planned yet."""
        _, features = self._places
        x = jax.vmap(uncertainty, in_axes=(None, 0), out_axes=1)(models.root, features)
        values = jnp.stack([jnp.zeros(len(features)), jnp.full(len(features), self.optimism)], 1)
        return LinearTable(models, x, values, jnp.int32(0), rewards, self._paid(rewards))

    def _paid(self, rewards: Any) -> Any:
        """What entering the anchors pays, and how uncertain that is."""
        if not rewards:
            return ()
        _, features = self._places
        x = jax.vmap(uncertainty, in_axes=(None, 0))(rewards.root[0], features)
        return jnp.stack([features @ rewards.mean[0, :, 0], x], axis=1)

    def update(
        self,
        table: LinearTable,
        s: Float[ArrayLike, " D"],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Float[ArrayLike, " D"],
        terminated: Bool[ArrayLike, ""],
    ) -> LinearTable:
        """Learns of the transition, and plans for a share of the anchors."""
        u, u_next = self.scaled(s), self.scaled(s_next)
        reward, ended = (jnp.asarray(x, u.dtype)[None] for x in (r, terminated))
        outcome = [u_next - u, reward, ended]
        if self.paid_for == "entering":
            outcome = [u_next - u, ended]
            table = self._observe_paid(table, self.phi(u_next), reward)
        models, gain = observe_one(table.models, a, self.phi(u), jnp.concatenate(outcome))
        # Anchors lose uncertainty as the posterior does: nothing is computed anew.
        lost = gain.lost_at(self._places[1])
        table = dataclasses.replace(
            table,
            models=models,
            uncertainty=table.uncertainty.at[a].add(-lost),
        )
        return self._plan(table, -(-len(lost) // self.steps_per_sweep))

    def _observe_paid(
        self, table: LinearTable, features: Float[Array, " p"], reward: Float[Array, "1"]
    ) -> LinearTable:
        """The table after a reward for entering a state with these features."""
        before = table.rewards.mean[0]
        rewards, gain = observe_one(table.rewards, 0, features, reward)
        _, at_anchors = self._places
        changes = [at_anchors @ (rewards.mean[0] - before)[:, 0], -gain.lost_at(at_anchors)]
        return dataclasses.replace(
            table, rewards=rewards, paid=table.paid + jnp.stack(changes, axis=1)
        )

    def _plan(self, table: LinearTable, number: int) -> LinearTable:
        """The table after backups of the next anchors, from the values of all.

        Every update has the same part of a sweep to do: under vmap, what is done now and then
        would be done, and thrown away, at every step.
        """
        num_anchors = len(table.values)
        first = jnp.minimum(table.next_anchor, num_anchors - number)
        places, features = (jax.lax.dynamic_slice_in_dim(x, first, number) for x in self._places)
        x = jax.lax.dynamic_slice_in_dim(table.uncertainty, first, number, axis=1)
        outputs = jnp.einsum("cp,apn->acn", features, table.models.mean)
        u = jnp.broadcast_to(places, (*x.shape, self.num_dims))
        best = self._backup(table, u, outputs, x)[..., :2].max(axis=0)
        values = jax.lax.dynamic_update_slice_in_dim(table.values, best, first, axis=0)
        following = jnp.where(first + number < num_anchors, first + number, 0)
        return dataclasses.replace(table, values=values, next_anchor=following)

    def _backup(
        self,
        table: LinearTable,
        u: Float[Array, "*k D"],
        outputs: Float[Array, "*k n"],
        x: Float[Array, "*k"],
    ) -> Float[Array, "*k 3"]:
        """Q, Q⁺ and visits of scaled states and actions, by what is predicted of them."""
        u_next = u + outputs[..., : self.num_dims]
        if self.paid_for == "leaving":
            reward = outputs[..., self.num_dims : self.num_dims + 1]
            entered = self.anchors.interpolate(table.values, u_next)
        else:
            known = jnp.concatenate([table.paid, table.values], axis=1)
            reward, x_paid, entered = jnp.split(
                self.anchors.interpolate(known, u_next), (1, 2), axis=-1
            )
            x = x + x_paid[..., 0]
        goes_on = 1 - jnp.clip(outputs[..., -1:], 0, 1)
        q, q_optimistic = jnp.moveaxis(reward + self.discount * goes_on * entered, -1, 0)
        number, doubt = visits(x, self.ridge_penalty), self.optimism_weight
        mixed = number * q_optimistic + doubt * self.optimism
        return jnp.stack([q, mixed / jnp.maximum(number + doubt, 1e-9), number], axis=-1)

    def estimates(self, table: LinearTable, s: Float[ArrayLike, " D"]) -> Estimates:
        """One step of look-ahead from state `s`, by the anchors' values."""
        u = self.scaled(s)
        features = self.phi(u)
        x = uncertainty(table.models.root, features)
        outputs = (table.models.mean * features[None, :, None]).sum(axis=1)

        def backup(outputs: Float[Array, " n"], x: Float[Array, ""]) -> Float[Array, " 3"]:
            return self._backup(table, u, outputs, x)

        q, q_optimistic, number = jax.vmap(backup)(outputs, x).T
        estimates = Estimates(
            q=q,
            visits=jnp.round(number).astype(jnp.int32),
            q_optimistic=q_optimistic,
        )
        if not self.standard_errors:
            return estimates
        slope = jax.vmap(jax.grad(lambda outputs, x: backup(outputs, x)[0]))(outputs, x)
        number = table.models.number[:, None]
        noise = jnp.where(number > 1, table.models.squares / jnp.maximum(number, 1), 1.0)
        q_stderr = jnp.sqrt(x * (noise * jnp.square(slope)).sum(axis=1))
        return dataclasses.replace(estimates, q_stderr=q_stderr, v_stderr=q_stderr[q.argmax()])


@struct.dataclass
class LinearPrior:
    """Parameters of a linear model with a learned prior.

    Attributes:
        start: the table before any data, by what tasks have in common.
        shared: what the prior of its models is learned from.
        shared_rewards: what that of its rewards is, or empty.
    """

    start: LinearTable
    shared: Shared
    shared_rewards: Any = ()


@dataclass(frozen=True)
class LearnedLinearModel(LinearModel):
    """Tasks' weights have a distribution: parameters, learned from the tasks of training."""

    def init_params(self, key: PRNGKeyArray) -> LinearPrior:
        """Weights of which nothing is known; the key is not consumed."""
        del key
        start = super().init()
        rewards = nothing_shared(start.rewards) if start.rewards else ()
        return LinearPrior(start, nothing_shared(start.models), rewards)

    def init(self) -> LinearTable:
        """No data: the weights that are to be expected, and the plan by them."""
        return self.params.start if self.params else super().init()

    def summarise(self, table: LinearTable, transitions: Transitions) -> tuple[LinearSummary, Any]:
        """What the task's posteriors say of the distributions that its weights are from.

        Of its models, and of its rewards, if they have a posterior of their own.
        """
        del transitions
        start, shared_rewards = self.params.start, self.params.shared_rewards
        return (
            summarise_task(start.models, self.params.shared, table.models),
            summarise_task(start.rewards, shared_rewards, table.rewards) if start.rewards else (),
        )

    def learn(self, summary: tuple[LinearSummary, Any]) -> LinearPrior:
        """The distributions that explain the tasks best, and the plan by their means."""
        prior, (of_models, of_rewards) = self.params, summary
        of_reward = max(LEAST_NOISE, self.reward_noise**2)
        least = jnp.full(prior.shared.noise.shape[1], LEAST_NOISE)
        if self.paid_for == "leaving":
            least = least.at[self.num_dims].set(of_reward)
        models, shared = learn_shared(prior.start.models, prior.shared, of_models, least)
        rewards, shared_rewards = prior.start.rewards, prior.shared_rewards
        if self.paid_for == "entering":
            rewards, shared_rewards = learn_shared(
                rewards, shared_rewards, of_rewards, jnp.full(1, of_reward)
            )
        table = self._table(models, rewards)
        num_anchors = len(table.values)
        table = jax.lax.fori_loop(
            0, SWEEPS_OF_PRIOR, lambda _, t: self._plan(t, num_anchors), table
        )
        return LinearPrior(table, shared, shared_rewards)


def linear_model(  # noqa: PLR0913 (a learner is made of its options)
    low: Any,
    high: Any,
    num_actions: int,
    prior: str = "none",
    discount: float = 0.98,
    steps_per_sweep: int = 5,
    optimism: float = 0.0,
    optimism_weight: float = 0.01,
    *,
    num_frequencies: int = 64,
    length_scale: float = 1.5,
    ridge_penalty: float = 0.01,
    anchors_along: int | None = None,
    standard_errors: bool = False,
    paid_for: str = "leaving",
    reward_noise: float = 0.0,
) -> LinearModel:
    """Object-level RL by planning in a linear model of each action's effect, for vector states.

    Features phi are p = F + D + 1 numbers: Fourier features of the scaled state, the state itself,
    and 1. For every action, Bayesian linear regression predicts from them the displacement, the
    reward and whether the episode ends, by all transitions so far. Values are planned on fixed
    anchors, a grid of at most 729 where that has 3 along each dimension, between which they are
    averages; a state's own are one step of look-ahead. With x = phiᵀ (Gram matrix + prior
    precision)⁻¹ phi, visits are max(1/x − ridge_penalty, 0), exact for one-hot features, and
    Q⁺ = (visits · Q + w · optimism) / (visits + w), planned for itself.

    The defaults were chosen on pendulum and mountain car of varied physics, acting greedily in Q⁺.
    Smooth functions explore far better than rough ones (`length_scale`: fifth episodes of -881 at
    0.7, -537 at 1.5), and physics that are seen once are known (`optimism_weight`: -120 at 0.01,
    -537 at 1). Anchors pay up to nine along a dimension of three.

    Args:
        low: of each of the D numbers of a state, what is −1 on its scale.
        high: likewise, what is 1.
        num_actions: A.
        prior: what is known before any data. "none": nothing, weights of 0 and the precision
            `ridge_penalty`. "learned": what tasks have in common, learned from the tasks of
            training (ALPaCA: Harrison, Sharma and Pavone 2018); then Q is at its best from the
            first step on (pendulum's first episode: -160 greedily in Q, -280 in Q⁺).
        discount: of the object-level values, per step.
        steps_per_sweep: updates that share the work of a sweep over all anchors.
        optimism: what is unknown is worth this to Q⁺, in reward units: what is hardly to be had.
        optimism_weight: w, how many visits make known half of a pair.
        num_frequencies: F.
        length_scale: on which effects change, where a state goes from −1 to 1.
        ridge_penalty: precision of the weights before any data, in visits.
        anchors_along: anchors along each dimension; `None`: as many as there may be.
        standard_errors: also estimate those of q, from the residual variance of one step; without
            that of rewards for entering.
        paid_for: what rewards depend on. "leaving": the state before an action, and the action;
            each action learns its own. "entering": the state after it, alike for all actions, which
            learn of a place together.
        reward_noise: standard deviation of rewards that a learned prior takes for noise at least:
            what features cannot express. By default, how well the first tasks are predicted
            decides; where these know no reward, all later ones would come as a surprise.

    Raises:
        ConfigError: if an argument is out of its range.
    """
    check_choice("prior", prior, PRIORS)
    check_choice("paid_for", paid_for, PAID_FOR)
    return (LearnedLinearModel if prior == "learned" else LinearModel)(
        low,
        high,
        num_actions,
        discount=discount,
        steps_per_sweep=steps_per_sweep,
        optimism=optimism,
        optimism_weight=optimism_weight,
        num_frequencies=num_frequencies,
        length_scale=length_scale,
        ridge_penalty=ridge_penalty,
        anchors_along=anchors_along,
        standard_errors=standard_errors,
        paid_for=paid_for,
        reward_noise=reward_noise,
    )


def make_linear_model(  # noqa: PLR0913 (each is a flag)
    env: Any,
    horizon: int,
    prior: Prior = "none",
    planning_discount: Probability = 0.98,
    steps_per_sweep: Size = 5,
    optimism: float = 0.0,
    optimism_weight: NonNegative = 0.01,
    num_frequencies: Count = 64,
    length_scale: Positive = 1.5,
    ridge_penalty: Positive = 0.01,
    anchors_along: Size | None = None,
    standard_errors: bool = False,
    paid_for: PaidFor = "leaving",
    reward_noise: NonNegative = 0.0,
) -> LinearModel:
    """The learner for an environment whose states are vectors.

    Args:
        env: the environment.
        horizon: steps of a meta-episode.
        prior: What is known before any data: none, or learned (what the physics of the tasks of
            training have in common).
        planning_discount: Discount of object-level RL, per env step.
        steps_per_sweep: Env steps that share the work of planning once for all anchors.
        optimism: What is unknown is worth this to the exploring plan, in reward units.
        optimism_weight: Visits that make known half of a state and action.
        num_frequencies: Fourier features of a state.
        length_scale: On which effects change, where states go from -1 to 1.
        ridge_penalty: Precision of the weights before any data, in visits.
        anchors_along: Anchors along each dimension of states. None: as many as there may be.
        standard_errors: Also estimate and show standard errors of the values.
        paid_for: What rewards depend on: leaving (the state before an action, and the action), or
            entering (the state after it, whatever the action).
        reward_noise: Standard deviation of rewards that a learned prior takes for noise at least.
    """
    del horizon
    return linear_model(
        *scales_of(env, "linear_model"),
        prior,
        planning_discount,
        steps_per_sweep,
        optimism,
        optimism_weight,
        num_frequencies=num_frequencies,
        length_scale=length_scale,
        ridge_penalty=ridge_penalty,
        anchors_along=anchors_along,
        standard_errors=standard_errors,
        paid_for=paid_for,
        reward_noise=reward_noise,
    )
