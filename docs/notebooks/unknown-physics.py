# %% [markdown]
# # Unknown physics
#
# Pendulums whose mass and length nobody tells the agent. A meta-episode is two episodes with one pendulum, 200 steps each. Object-level RL
# fits the physics of that pendulum while it swings: a linear regression on Fourier features. It starts with what the pendulums of training had
# in common, and plans in the fitted model. The policy sees these plans.

# %%
import jax
import matplotlib.pyplot as plt

import rl3jax

rl3jax.use_all_cores()
config = rl3jax.Config(env="pendulum", n_tasks=32, minibatches=4, horizon=400, iterations=4)
trainer = rl3jax.make_trainer(config)
print(trainer.env)

# %%
state, history = rl3jax.fit(trainer, jax.random.key(0))

# %% [markdown]
# This is a very short training: 51 000 env steps. Good agents need some seven million, a few minutes on two CPU cores. Returns of the
# two episodes, mean over 32 pendulums that no training used, beside those of a random agent:

# %%
for name, player in {"random": "random", "RL³": trainer.agent(state)}.items():
    played = rl3jax.evaluate_agent(player, trainer.env, 400, 32, rl3jax.held_out_key())
    print(f"{name:8}", *(f"{mean:8.0f}" for mean in played.return_per_episode()[0]))

# %%
frames = rl3jax.render_episode({"RL³": trainer.agent(state)}, trainer.env, 200, jax.random.key(1))
plt.figure(figsize=(7, 4))
plt.imshow(frames[len(frames) // 2])
plt.axis("off")

# %% [markdown]
# Next: [all environments](../environments.md); [any gymnax environment](../gymnax.md) whose parameters are to vary.
