"""Bandits for stable-baselines3, which must be installed: all tasks as one VecEnv, in NumPy.

A step of all tasks is a few array operations; that spares the peer the cost of an environment
object and a Python call for every task.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv


class BanditVecEnv(VecEnv):
    """Bernoulli bandits, drawn anew after every meta-episode.

    Shows the last action, its reward, whether the meta-episode begins, and the time.
    """

    def __init__(self, n_tasks: int, num_arms: int, horizon: int) -> None:
        shown = spaces.Box(0.0, 1.0, (num_arms + 3,), np.float32)
        super().__init__(n_tasks, shown, spaces.Discrete(num_arms))
        self.num_arms = num_arms
        self.horizon = horizon
        self.tasks = np.arange(n_tasks)
        self.rng = np.random.default_rng(0)
        self.infos: list[dict[str, Any]] = [{} for _ in range(n_tasks)]

    def reset(self) -> np.ndarray:
        self.t = 0
        self.success_prob = self.rng.random((self.num_envs, self.num_arms))
        first = self._blank()
        first[:, self.num_arms + 1] = 1.0
        return first

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        self.t += 1
        prob = self.success_prob[self.tasks, self.actions]
        reward = (self.rng.random(self.num_envs) < prob).astype(np.float32)
        done = np.full(self.num_envs, self.t == self.horizon)
        if self.t == self.horizon:
            return self.reset(), reward, done, self.infos
        shown = self._blank()
        shown[self.tasks, self.actions] = 1.0
        shown[:, self.num_arms] = reward
        shown[:, self.num_arms + 2] = self.t / self.horizon
        return shown, reward, done, self.infos

    def _blank(self) -> np.ndarray:
        return np.zeros((self.num_envs, self.num_arms + 3), np.float32)

    # What VecEnv asks for besides, and a learner does not use.

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        del indices
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **options: Any
    ) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        del wrapper_class, indices
        return [False] * self.num_envs
