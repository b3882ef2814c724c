"""RL³ and RL² by a plain PPO that knows nothing of either: `python examples/ppo.py rl3`, or `rl2`.

In the manner of purejaxrl. What makes it RL³ is its environment, `rl3jax.ValueAugmented`, whose
episodes are meta-episodes of five-armed bandits, and whose observations hold what an object-level
learner makes of each. A rollout is one meta-episode a task, so that the GRUs begin with zeros.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import rl3jax

WIDTH = 64


class Recurrent(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, carry, x):
        carry, y = nn.GRUCell(WIDTH)(carry, nn.relu(nn.Dense(WIDTH)(x)))
        return carry, nn.Dense(self.num_outputs)(y)


def unroll(num_outputs, params, xs):  # [T, B, D] of whole meta-episodes
    network = nn.scan(Recurrent, variable_broadcast="params", split_rngs={"params": False})
    return network(num_outputs).apply(params, jnp.zeros((xs.shape[1], WIDTH)), xs)[1]


def make_train(
    env, n_tasks=256, iterations=30, epochs=4, minibatches=8, learning_rate=2e-3,
    entropy=0.01, discount=0.99, gae_lambda=0.8, clip=0.2,
):  # fmt: skip
    env_params, num_actions = env.default_params, env.num_actions
    decay = optax.linear_schedule(learning_rate, 0, iterations * epochs * minibatches)
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(decay))
    parts = {"actor": "actor", "critic": "critic"}
    optimiser = optax.multi_transform(dict.fromkeys(parts, adam), parts)

    def collect(params, key):
        def step(state, key):
            carry, obs, env_state = state
            key_act, key_env = jax.random.split(key)
            carry, logits = Recurrent(num_actions).apply(params["actor"], carry, obs)
            action, keys = (
                jax.random.categorical(key_act, logits),
                jax.random.split(key_env, n_tasks),
            )
            after = jax.vmap(env.step, (0, 0, 0, None))(keys, env_state, action, env_params)
            return (carry, *after[:2]), (obs, action, nn.log_softmax(logits), after[2])

        key_reset, key_steps = jax.random.split(key)
        start = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, n_tasks), env_params)
        start = jnp.zeros((n_tasks, WIDTH)), *start
        return jax.lax.scan(step, start, jax.random.split(key_steps, env.horizon))[1]

    def gae(values, rewards):
        def backward(later, now):
            delta = now[1] + discount * later[0] - now[0]
            advantage = delta + discount * gae_lambda * later[1]
            return (now[0], advantage), advantage

        end = jnp.zeros(n_tasks), jnp.zeros(n_tasks)
        return jax.lax.scan(backward, end, (values, rewards), reverse=True)[1]

    def loss(params, batch, bonus):
        obs, action, behaviour, advantage, target = batch
        log_probs = nn.log_softmax(unroll(num_actions, params["actor"], obs))
        log_ratio = jnp.take_along_axis(log_probs - behaviour, action[..., None], axis=-1)[..., 0]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = jnp.exp(log_ratio)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
        nats = -(jnp.exp(log_probs) * log_probs).sum(axis=-1)
        error = unroll(1, params["critic"], obs)[..., 0] - target
        return 0.5 * jnp.square(error).mean() - (gain + bonus * nats).mean()

    def iteration(learned, inputs):
        key, progress = inputs
        key_collect, *keys = jax.random.split(key, 1 + epochs)
        obs, action, behaviour, rewards = collect(learned[0], key_collect)
        values = unroll(1, learned[0]["critic"], obs)[..., 0]
        advantage = gae(values, rewards)
        data = obs, action, behaviour, advantage, advantage + values

        def update(learned, rows):
            batch = jax.tree.map(lambda x: x[:, rows], data)
            gradient = jax.grad(loss)(learned[0], batch, entropy * (1 - progress))
            change, optimiser_state = optimiser.update(gradient, learned[1])
            return (optax.apply_updates(learned[0], change), optimiser_state), None

        rows = jnp.stack([jax.random.permutation(key, n_tasks) for key in keys])
        learned, _ = jax.lax.scan(update, learned, rows.reshape(epochs * minibatches, -1))
        return learned, rewards.sum(axis=0).mean()

    def train(key):
        key_actor, key_critic, key_obs, key_run = jax.random.split(key, 4)
        first = jnp.zeros(WIDTH), env.reset(key_obs, env_params)[0]
        params = {
            "actor": Recurrent(num_actions).init(key_actor, *first),
            "critic": Recurrent(1).init(key_critic, *first),
        }
        inputs = jax.random.split(key_run, iterations), jnp.arange(iterations) / iterations
        return jax.lax.scan(iteration, (params, optimiser.init(params)), inputs)

    return train


def make_env(algo, horizon=100):
    env = rl3jax.make_env("bandit", num_arms=5)
    learner = rl3jax.object_level.make_learner("value_iteration", algo, {}, env, horizon)
    return rl3jax.ValueAugmented(env, learner, horizon)


if __name__ == "__main__":
    (algo,) = sys.argv[1:] or ["rl3"]
    _, returns = jax.jit(make_train(make_env(algo)))(jax.random.key(0))
    print(f"{algo}: mean return of the last five iterations {returns[-5:].mean():.2f}")
