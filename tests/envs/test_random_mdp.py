import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl3jax.envs import EnvState, RandomMdp

N_TASKS = 1000
S, A = 4, 3  # quick to compile


@functools.cache
def sample_tasks(variation, num_states=S):
    """`N_TASKS` tasks, of which tests look at several sides; compiling takes longest."""
    keys = jax.random.split(jax.random.key(0), N_TASKS)
    return jax.jit(jax.vmap(RandomMdp(num_states, A, variation=variation).sample_task))(keys)


@pytest.mark.parametrize(
    ("variation", "concentration"),
    [("iid", 1.0), ("ood-dirichlet", 0.25), ("ood-uniform-reward", 1.0)],
)
def test_transition_rows_are_dirichlet(variation, concentration):
    probs = np.asarray(sample_tasks(variation).transition_probs)
    marginal = scipy.stats.beta(concentration, (S - 1) * concentration)
    for next_state in (0, S - 1):  # one entry of a row, since entries of a row are dependent
        entries = probs[..., next_state].ravel()
        assert len(entries) == N_TASKS * S * A
        assert scipy.stats.kstest(entries, marginal.cdf).pvalue > 1e-3
    # Entries of a row are negatively correlated: −1 / (S − 1).
    correlation = np.corrcoef(probs[..., 0].ravel(), probs[..., 1].ravel())[0, 1]
    assert abs(correlation + 1 / (S - 1)) < 0.04


@pytest.mark.parametrize(
    ("variation", "distribution", "reward_std"),
    [
        ("iid", scipy.stats.norm(1, 1), 1.0),
        ("ood-dirichlet", scipy.stats.norm(1, 1), 1.0),
        ("ood-uniform-reward", scipy.stats.uniform(0, 2), 0.0),
    ],
)
def test_mean_rewards_have_their_distribution(variation, distribution, reward_std):
    tasks = sample_tasks(variation)
    assert scipy.stats.kstest(np.ravel(tasks.mean_reward), distribution.cdf).pvalue > 1e-3
    assert (tasks.reward_std == reward_std).all()


def test_rows_and_rewards_are_independent():
    tasks = sample_tasks("iid")
    columns = [tasks.transition_probs[:, 0, 0, 0], tasks.transition_probs[:, 0, 1, 0]]
    columns += [tasks.mean_reward[:, 0, 0], tasks.mean_reward[:, 0, 1]]
    correlation = np.corrcoef(np.stack(columns))
    assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(N_TASKS)


@pytest.mark.parametrize("variation", ["iid", "ood-dirichlet"])
@pytest.mark.parametrize("num_states", [1, 2])
def test_rows_are_distributions_in_single_precision(variation, num_states):
    probs = sample_tasks(variation, num_states).transition_probs
    assert probs.dtype == jnp.float32
    assert jnp.isfinite(probs).all()
    assert jnp.abs(probs.sum(axis=-1) - 1).max() < 1e-5


@pytest.mark.parametrize(("variation", "std"), [("iid", 1.0), ("ood-uniform-reward", 0.0)])
def test_rewards_scatter_about_their_mean_whatever_the_next_state(variation, std):
    env, n = RandomMdp(variation=variation), 20_000
    task = env.sample_task(jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), n)
    state = EnvState(time=jnp.int32(0), index=jnp.int32(3))
    steps = jax.jit(jax.vmap(env.step_env, (0, None, None, None)))(keys, state, jnp.int32(2), task)
    noise = np.asarray(steps[2] - task.mean_reward[3, 2], np.float64)
    if std == 0:
        assert (noise == 0).all()
        return
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3
    next_index = np.asarray(steps[1].index)
    groups = [noise[next_index == s] for s in range(env.num_states)]
    assert scipy.stats.f_oneway(*[g for g in groups if len(g) > 20]).pvalue > 1e-3


def test_episodes_start_in_state_0_and_last_for_the_task_horizon():
    env = RandomMdp(task_horizon=3)
    key_reset, *keys = jax.random.split(jax.random.key(3), 5)
    _, state = env.reset(key_reset)
    ends = []
    for key in keys:
        _, state, _, terminated, truncated, _ = env.step(key, state, jnp.int32(0))
        ends.append((bool(terminated), bool(truncated), int(state.time)))
    assert ends == [(False, False, 1), (False, False, 2), (False, True, 0), (False, False, 1)]
    np.testing.assert_array_equal(env.tabular(env.default_params).start, np.eye(10)[0])


def test_ood_is_another_name_of_ood_dirichlet():
    alias, name = RandomMdp(variation="ood"), RandomMdp(variation="ood-dirichlet")
    assert alias == name
    assert hash(alias) == hash(name)
    assert alias.variation == "ood-dirichlet"


@pytest.mark.parametrize("field", ["num_states", "num_actions", "task_horizon"])
@pytest.mark.parametrize("value", [0, -3, 1.0, True, None, "10"])
def test_sizes_are_whole_numbers_of_at_least_1(field, value, unchecked):
    with pytest.raises(ValueError, match=f"{field} must be (at least 1|a whole number)"):
        unchecked(RandomMdp)(**{field: value})


def test_an_unknown_variation_is_refused():
    message = r"unknown variation 'ood-uniform'; did you mean 'ood-uniform-reward'\?"
    with pytest.raises(ValueError, match=message):
        RandomMdp(variation="ood-uniform")
