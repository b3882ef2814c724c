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


class ActorCritic(nn.Module):
    num_actions: int

    @nn.compact
    def __call__(self, carries, x):
        actor, y = nn.GRUCell(64)(carries[0], nn.relu(nn.Dense(64)(x)))
        critic, z = nn.GRUCell(64)(carries[1], nn.relu(nn.Dense(64)(x)))
        logits = nn.Dense(self.num_actions, kernel_init=nn.initializers.normal(0.01))(y)
        return (actor, critic), (nn.log_softmax(logits), nn.Dense(1)(z)[..., 0])


def make_train(
    env, n_tasks=256, iterations=30, epochs=4, minibatches=8, learning_rate=2e-3,
    entropy=0.01, discount=0.99, gae_lambda=0.8, clip=0.2,
):  # fmt: skip
    task = env.default_params  # not a task to this environment, which draws its own
    network = ActorCritic(env.num_actions)
    unroll = nn.scan(ActorCritic, variable_broadcast="params", split_rngs={"params": False})
    begun = (jnp.zeros((n_tasks, 64)), jnp.zeros((n_tasks, 64)))
    decay = optax.linear_schedule(learning_rate, 0, iterations * epochs * minibatches)
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(decay))

    def collect(params, key):
        def step(state, key):
            carry, obs, env_state = state
            key_act, key_env = jax.random.split(key)
            carry, (log_probs, value) = network.apply(params, carry, obs)
            action = jax.random.categorical(key_act, log_probs)
            keys = jax.random.split(key_env, n_tasks)
            after = jax.vmap(env.step, (0, 0, 0, None))(keys, env_state, action, task)
            return (carry, *after[:2]), (obs, action, log_probs, value, after[2])

        key_reset, key_steps = jax.random.split(key)
        start = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, n_tasks), task)
        return jax.lax.scan(step, (begun, *start), jax.random.split(key_steps, env.horizon))[1]

    def gae(values, rewards):
        def backward(later, now):
            delta = now[1] + discount * later[0] - now[0]
            advantage = delta + discount * gae_lambda * later[1]
            return (now[0], advantage), advantage

        end = jnp.zeros(n_tasks), jnp.zeros(n_tasks)
        return jax.lax.scan(backward, end, (values, rewards), reverse=True)[1]

    def loss(params, batch, bonus):
        obs, action, behaviour, advantage, target = batch
        carry = jax.tree.map(lambda x: x[: obs.shape[1]], begun)
        _, (log_probs, value) = unroll(env.num_actions).apply(params, carry, obs)
        log_ratio = jnp.take_along_axis(log_probs - behaviour, action[..., None], axis=-1)[..., 0]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = jnp.exp(log_ratio)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
        nats = -(jnp.exp(log_probs) * log_probs).sum(axis=-1)
        return 0.5 * jnp.square(value - target).mean() - (gain + bonus * nats).mean()

    def iteration(learned, inputs):
        key, progress = inputs
        key_collect, *keys = jax.random.split(key, 1 + epochs)
        obs, action, behaviour, values, rewards = collect(learned[0], key_collect)
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
        key_params, key_obs, key_run = jax.random.split(key, 3)
        obs = jnp.stack([env.reset(key_obs, task)[0]] * n_tasks)
        params = network.init(key_params, begun, obs)
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
