import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, ConfigError, baselines, make_env, make_trainer
from rl3jax.agent import Agent
from rl3jax.baselines import OptimalPolicy, ThompsonAgent, UniformAgent
from rl3jax.rollout import rollout, rollouts, sample_tasks

rollout = jax.jit(rollout, static_argnums=(1, 3))
rollouts = jax.jit(rollouts, static_argnums=(1, 3))

HORIZON = 12


def make_agent(greedy=False, **changes):
    values = dict(env="mdp", horizon=HORIZON, n_tasks=4, num_states=4, num_actions=3,
                  task_horizon=5, network="gru", width=8)  # fmt: skip
    trainer = make_trainer(Config(**(values | changes)))
    state = trainer.init(jax.random.key(0))
    return trainer, trainer.agent(state, greedy=greedy)


def interact(agent, env, task, key):
    """A meta-episode as a plain Python loop over the public protocol: the reference."""
    key_reset, key_step = jax.random.split(key)
    act, observe = jax.jit(agent.act), jax.jit(agent.observe)
    _, env_state = env.reset(key_reset, task)
    carry = jax.jit(agent.init)(env.state_index(env_state))
    history = []
    for _ in range(HORIZON):
        key_step, key_act, key_env = jax.random.split(key_step, 3)
        s = env.state_index(env_state)
        action, carry = act(carry, key_act)
        _, env_state, reward, terminated, truncated, info = env.step(
            key_env, env_state, action, task
        )
        s_next, s_now = info["next_state_index"], env.state_index(env_state)
        carry = observe(carry, action, reward, s_next, terminated, truncated, s_now)
        history.append((s, action, reward, s_next, terminated, truncated, s_now))
    return [np.array(column) for column in zip(*history, strict=True)], carry


@pytest.mark.parametrize("network", ["markov", "gru", "transformer"])
def test_rollout_equals_the_protocol_step_by_step(network):
    trainer, agent = make_agent(network=network)
    key_task, key = jax.random.split(jax.random.key(1))
    task = trainer.env.sample_task(key_task)
    (_, action, reward, _, terminated, truncated, _), _ = interact(
        agent, trainer.env, task, jax.random.clone(key)
    )
    trajectory = rollout(agent, trainer.env, task, HORIZON, key)
    np.testing.assert_array_equal(trajectory.action, action)
    np.testing.assert_allclose(trajectory.reward, reward, rtol=1e-6)
    np.testing.assert_array_equal(trajectory.terminated, terminated)
    np.testing.assert_array_equal(trajectory.truncated, truncated)


@pytest.mark.parametrize("network", ["markov", "gru", "transformer"])
def test_logits_of_acting_are_those_of_the_whole_sequence(network):
    trainer, agent = make_agent(network=network)
    key_task, key = jax.random.split(jax.random.key(2))
    tasks = sample_tasks(trainer.env, jax.random.split(key_task, 3))
    trajectory = rollouts(agent, trainer.env, tasks, HORIZON, jax.random.split(key, 3))
    logits = agent.network.unroll(agent.params, trajectory.observation)
    np.testing.assert_allclose(trajectory.behaviour, logits, atol=1e-5)


def test_what_is_shown_is_rebuilt_from_the_history_alone():
    """Every field of every observation, from the transitions; restarts are no transitions."""
    trainer, agent = make_agent(
        object_level="q_learning", planning_discount=0.5, squash_values=False
    )
    key_task, key = jax.random.split(jax.random.key(3))
    task = trainer.env.sample_task(key_task)
    (s, a, r, s_next, _, truncated, s_now), _ = interact(
        agent, trainer.env, task, jax.random.clone(key)
    )
    observation = rollout(agent, trainer.env, task, HORIZON, key).observation
    field = {name: np.array(observation[:, span]) for name, span in trainer.layout.fields.items()}

    assert truncated.tolist() == [t % 5 == 4 for t in range(HORIZON)]
    np.testing.assert_array_equal(s[1:], s_now[:-1])
    q, visits = np.zeros((4, 3)), np.zeros((4, 3))
    for t in range(HORIZON):
        np.testing.assert_array_equal(field["state"][t], np.eye(4)[s[t]])
        np.testing.assert_allclose(field["time"][t], t / HORIZON, rtol=1e-6)
        np.testing.assert_allclose(field["episode_time"][t], (t % 5) / 5, rtol=1e-6)
        shown = field["advantages"][t] * 10 + field["value"][t] * 10
        np.testing.assert_allclose(shown, q[s[t]], atol=1e-5)
        np.testing.assert_allclose(field["visits"][t] * 10, visits[s[t]], atol=1e-5)
        np.testing.assert_array_equal(field["first_step"][t], float(t == 0))
        if t:
            np.testing.assert_array_equal(field["previous_action"][t], np.eye(3)[a[t - 1]])
            np.testing.assert_allclose(field["previous_reward"][t], r[t - 1], rtol=1e-6)
        visits[s[t], a[t]] += 1
        target = r[t] + 0.5 * q[s_next[t]].max()
        q[s[t], a[t]] += (target - q[s[t], a[t]]) / visits[s[t], a[t]]


def test_estimates_after_a_restart_are_those_of_the_start_state():
    trainer, agent = make_agent()
    key_task, key = jax.random.split(jax.random.key(4))
    task = trainer.env.sample_task(key_task)
    history, carry = interact(agent, trainer.env, task, jax.random.clone(key))
    estimates = agent.learner.estimates(carry.table, carry.state)
    np.testing.assert_array_equal(carry.state, history[-1][-1])
    np.testing.assert_allclose(estimates.q, agent.learner.q_table(carry.table)[carry.state])
    counted = sum(
        int(agent.learner.estimates(carry.table, jnp.int32(s)).visits.sum()) for s in range(4)
    )
    assert counted == HORIZON


def test_sampling_follows_the_logits_and_greedy_takes_the_best():
    _, agent = make_agent()
    carry = agent.init(jnp.int32(2))
    decision, _ = agent.decide(carry, jax.random.key(0))
    keys = jax.random.split(jax.random.key(5), 20_000)
    actions, _ = jax.jit(jax.vmap(agent.act, in_axes=(None, 0)))(carry, keys)
    frequency = np.bincount(actions, minlength=3) / len(keys)
    np.testing.assert_allclose(frequency, jax.nn.softmax(decision.behaviour), atol=0.015)
    best, _ = agent.replace(greedy=True).act(carry, jax.random.key(6))
    assert best == jnp.argmax(decision.behaviour)
    assert best.dtype == jnp.int32


def test_agents_of_several_seeds_are_one_batched_agent():
    trainer, _ = make_agent()
    states = jax.vmap(trainer.init)(jax.random.split(jax.random.key(7), 3))
    agents = jax.vmap(trainer.agent)(states)
    carries = jax.vmap(lambda agent: agent.init(jnp.int32(1)))(agents)
    actions, _ = jax.vmap(lambda agent, carry, key: agent.act(carry, key))(
        agents, carries, jax.random.split(jax.random.key(8), 3)
    )
    alone = [
        trainer.agent(jax.tree.map(lambda x, i=i: x[i], states)).act(
            jax.tree.map(lambda x, i=i: x[i], carries), jax.random.key(9)
        )[0]
        for i in range(3)
    ]
    np.testing.assert_array_equal(actions, alone)


def test_rl2_is_not_shown_estimates():
    rl2, _ = make_agent(algo="rl2")
    rl3, _ = make_agent(mean_rewards=False)
    assert rl3.layout.size - rl2.layout.size == 2 * 3 + 1
    assert "value" not in rl2.layout.fields


def test_for_horizon_changes_the_time_scale_alone():
    _, agent = make_agent()
    longer = agent.for_horizon(2 * HORIZON)
    assert longer.layout.horizon == 2 * HORIZON
    assert longer.layout.fields == agent.layout.fields


def test_agents_of_different_classes_are_different_pytrees():
    """JAX holds dataclasses with equal static parts for the same pytree, and their programs too."""

    class Stays(UniformAgent):
        pass

    class Around(UniformAgent):
        inner: Agent

    agents = UniformAgent(5), ThompsonAgent(5), Stays(5)
    agents += tuple(Around(5, agent) for agent in agents)
    assert len(agents) == 6
    for one, other in itertools.combinations(map(jax.tree.structure, agents), 2):
        assert one != other
    for agent in agents:
        assert jax.tree.structure(agent) == jax.tree.structure(agent.replace())
        assert type(jax.tree.map(jnp.asarray, agent)) is agent._class is type(agent)


# --- what it is given ---------------------------------------------------------------------------

PLAIN = {"action": 1, "reward": 1, "s_next": 2, "terminated": False, "truncated": 0, "s_now": 0}
CASTS = {
    "policy": lambda: make_agent(network="markov", algo="rl2")[1],
    "greedy": lambda: baselines.make_baseline("greedy", make_env("mdp"), HORIZON),
    "optimal": lambda: OptimalPolicy(env := make_env("mdp"), HORIZON)(env.default_params),
    "beb": lambda: baselines.BebAgent.for_env(make_env("mdp"), beta=jnp.float32(1)),
    "thompson": lambda: ThompsonAgent(5),
    "random": lambda: UniformAgent(5),
}


@pytest.mark.parametrize("name", CASTS)
def test_numbers_of_any_kind_are_cast_and_keep_the_carry_as_it_is(name):
    agent = CASTS[name]()
    numpy = {k: np.asarray(v, np.int64 if "s_" in k or k == "action" else None) for k, v in
             PLAIN.items()}  # fmt: skip

    def step(carry, key):
        _, carry = agent.act(carry, key)
        carries = [agent.observe(carry, **given) for given in (PLAIN, numpy)]
        assert jax.tree.map(jnp.result_type, carries[0]) == jax.tree.map(
            jnp.result_type, carries[1]
        )
        return carries[0], None

    jax.lax.scan(step, agent.init(np.int64(0)), jax.random.split(jax.random.key(0), 2))


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("reward", [1.0], r"reward must be of shape \(\), not \(1,\)"),
        ("reward", "much", "reward cannot be 'much'"),
        ("s_next", np.zeros(2), r"s_next must be of shape \(\), not \(2,\)"),
        ("s_now", None, "s_now cannot be None"),
        ("action", 2**40, "action cannot be 1099511627776"),
        ("terminated", np.zeros(3, bool), r"terminated must be of shape .* jax.vmap"),
    ],
)
def test_what_is_no_number_of_one_task_is_named(field, wrong, message):
    agent = ThompsonAgent(5)
    with pytest.raises(ConfigError, match=message):
        agent.observe(agent.init(0), **PLAIN | {field: wrong})
