# %% [markdown]
# # RL³ in ten minutes
#
# We train an agent that plays bandits which it has never seen, compare it with classical algorithms, and watch it.
#
# A *task* is one bandit with five arms. Each arm pays 1 with a probability of its own, which nobody tells the agent. A *meta-episode* is 50
# pulls in one such bandit. The agent has to find a good arm, and to stop looking for a better one in time.

# %%
import jax
import matplotlib.pyplot as plt

import rl3jax

rl3jax.use_all_cores()
config = rl3jax.Config(env="bandit", algo="rl3", n_tasks=1024, horizon=50, iterations=15)
trainer = rl3jax.make_trainer(config)

# %% [markdown]
# What does the policy see? Beside the last action and reward, it sees what object-level RL has estimated so far: values of the arms, and
# how often each was pulled.

# %%
print(trainer.layout.describe())

# %% [markdown]
# Training: in each iteration 1 024 fresh bandits are played at once, and then PPO improves the policy.

# %%
state, history = rl3jax.fit(trainer, jax.random.key(0))
plt.figure(figsize=(6, 3))
plt.plot(history["env_steps"] / 1e6, history["mean_return"])
plt.xlabel("env steps (millions)")
plt.ylabel("pulls of 50 that paid")

# %% [markdown]
# Scores on 500 bandits that no training used. Every player plays the same bandits. `optimal` knows the best arm from the start; nobody who
# has to find it can be as good.

# %%
agent = trainer.agent(state, greedy=True)
players = {
    "random": "random",
    "UCB1": "ucb1",
    "Thompson": "thompson",
    "RL³": agent,
    "optimal": "optimal",
}
scores = {}
for name, player in players.items():
    scores[name] = rl3jax.evaluate_agent(player, trainer.env, 50, 500, rl3jax.held_out_key())
    print(f"{name:10}{scores[name].mean:6.2f} ± {scores[name].stderr:.2f}")

# %% [markdown]
# Is RL³ better than Thompson sampling? Both have played the same bandits, so we compare bandit by bandit.

# %%
difference = rl3jax.statistics.paired_difference(scores["RL³"].returns, scores["Thompson"].returns)
print(f"{difference.mean:.2f} ± {difference.stderr:.2f}")

# %% [markdown]
# And what does it do in one of them? Each arm's posterior beside the truth (above), and its pulls over time.

# %%
frames = rl3jax.render_episode({"RL³": agent}, trainer.env, horizon=50, key=jax.random.key(2))
plt.figure(figsize=(7, 5))
plt.imshow(frames[-1])
plt.axis("off")

# %% [markdown]
# Next: `env="mdp"` or `env="gridworld"` in place of `env="bandit"`; `algo="rl2"` for the same without object-level RL;
# [your own environment](../own-environment.md).
