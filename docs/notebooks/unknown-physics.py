# %% [markdown]
# # Unknown physics
#
# Pendulums whose mass and length nobody tells the agent. A meta-episode is a few episodes with one pendulum, 200 steps each. Object-level RL
# fits the physics of that pendulum while it swings: a linear regression on Fourier features. It starts with what the pendulums of training had
# in common, and plans in the fitted model. The policy sees these plans.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import rl3jax

rl3jax.use_all_cores()
env = rl3jax.make_env("pendulum")
print(env)

# %% [markdown]
# An agent for it comes with the package. It was trained for four minutes on two CPU cores. We let it play five episodes with each of 50
# pendulums that no training used. The random agent and the optimum play the same pendulums. The optimum is told mass and length.

# %%
agent = rl3jax.load_pretrained("pendulum-rl3")
players = {"random": "random", "RL³": agent, "optimum": "optimal"}
returns = {}
for name, player in players.items():
    played = rl3jax.evaluate_agent(player, env, 1000, 50, rl3jax.held_out_key())
    returns[name], _ = played.return_per_episode()
    print(f"{name:8}", *(f"{mean:8.0f}" for mean in returns[name]))

# %% [markdown]
# Does it adapt? Pendulums start anywhere, and some starts cost more than others. So we look at what it loses to the optimum, which starts
# as it does: most in the first episode, in which it has yet to learn what it swings.

# %%
episodes = np.arange(1, 6)
plt.figure(figsize=(6, 3))
plt.bar(episodes, returns["optimum"] - returns["RL³"])
plt.xlabel("episode with the same pendulum")
plt.ylabel("lost to the optimum")

# %% [markdown]
# The training itself, very short here: two episodes a pendulum, and 51 000 env steps in place of some four million. In the first iteration
# object-level RL does not know yet what pendulums have in common, and returns of the two episodes are far worse than those that follow. The
# policy starts as its plan, so that little is left for PPO to do. Returns of both episodes, with the same 50 pendulums:

# %%
config = rl3jax.Config(env="pendulum", n_tasks=32, minibatches=4, horizon=400, iterations=4)
trainer = rl3jax.make_trainer(config)
state, history = rl3jax.fit(trainer, jax.random.key(0))
played = rl3jax.evaluate_agent(trainer.agent(state), env, 400, 50, rl3jax.held_out_key())
print(*(f"{mean:8.0f}" for mean in played.return_per_episode()[0]))

# %% [markdown]
# And what does it look like? A moment of the shipped agent's first episode with a pendulum:

# %%
frames = rl3jax.render_episode({"RL³": agent}, env, 200, jax.random.key(1))
plt.figure(figsize=(7, 4))
plt.imshow(frames[len(frames) // 2])
plt.axis("off")

# %% [markdown]
# Next: [all environments](../environments.md); [any gymnax environment](../gymnax.md) whose parameters are to vary.
