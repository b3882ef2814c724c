# %% [markdown]
# # An environment of your own
#
# Six rooms in a ring. In one of them a treasure is buried, and nobody says in which. The agent may go left, go right, or dig. Digging in the
# right room pays 1, as often as it likes. After 12 steps it is back at the entrance, in the same ring: that is an *episode*. A *meta-episode*
# is four of them.
#
# An environment says how a task is drawn (where is the treasure?), where an episode begins, and what an action does. The task is an argument.

# %%
from dataclasses import dataclass

import jax
import jax.numpy as jnp

import rl3jax

rl3jax.use_all_cores()


@dataclass(frozen=True)
class Treasure(rl3jax.Environment):
    num_states: int = 6
    num_actions: int = 3
    task_horizon: int = 12

    def sample_task(self, key):
        return jax.random.randint(key, (), 0, self.num_states)

    def start_index(self, key, task):
        return 0

    def transition(self, key, s, action, task):
        digs = action == 2
        s_next = jnp.where(digs, s, (s + 2 * action - 1) % self.num_states)
        return rl3jax.Transition(s_next, reward=digs & (s == task), terminated=False)


# %% [markdown]
# `check_env` plays it at random, and says what is wrong. Nothing is:

# %%
print(rl3jax.check_env(Treasure()))

# %%
config = rl3jax.Config(n_tasks=256, horizon=48, iterations=20, minibatches=16, value_scale=1.0)
trainer = rl3jax.make_trainer(config, env=Treasure())
state, history = rl3jax.fit(trainer, jax.random.key(0))

# %% [markdown]
# How much does each of the four episodes pay? The random agent learns nothing. Q-learning learns a little. RL³ searches in the first episode,
# and walks straight to the treasure in those that follow.

# %%
players = {"random": "random", "q-learning": "q-learning", "RL³": trainer.agent(state)}
for name, player in players.items():
    played = rl3jax.evaluate_agent(player, trainer.env, 48, 500, rl3jax.held_out_key())
    print(f"{name:12}", *(f"{mean:6.2f}" for mean in played.return_per_episode()[0]))

# %% [markdown]
# Next: [what else an environment may say](../own-environment.md); [your own learner](../own-learner.md), [your own network](../own-network.md).
