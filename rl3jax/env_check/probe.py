"""An environment under check: called, traced and played at random, each once for all checks."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jaxtyping import Array, Int, PRNGKeyArray

from rl3jax.env_check.findings import EnvFailureError, EnvFinding, as_finding
from rl3jax.envs import Environment, EnvState, TaskDistribution

WALK_STEPS = (256, 2048)
"""Steps of random play in each task: two of its longest episodes, but no fewer or more."""
DRAWS = 2**20
"""Draws from all pairs of state and action together."""
DRAWS_OF_A_PAIR = (16, 2048)
STARTS = 1024
"""Resets in each task."""

ON_CPU: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
"""Compiler options there, where most of the time of a check is spent in compiling."""


class Walk(NamedTuple):
    """Random play; T tasks for N steps.

    Attributes:
        index: `[T, N + 1]`, the state index, or `[T, N + 1, D]`, the vector, that learners see
            before, and after, each step.
        state, obs: `[T, N + 1, ...]`, likewise.
        next_index, reward, terminated, truncated: `[T, N]`, of each step; also `[T, N, D]`.
        final_obs: `[T, N, F]`, before a restart; `None` if `info` has none.
    """

    index: Any
    state: Any
    obs: Any
    next_index: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    final_obs: Any

    @property
    def done(self) -> Any:
        """`[T, N]`, whether a step ended its episode."""
        return self.terminated | self.truncated


class Play(NamedTuple):
    """What one key gives: a task, its `TabularModel` (or `()`) and a walk in it, for T tasks."""

    task: Any
    model: Any
    walk: Walk


class Sample(NamedTuple):
    """Steps from states that play can reach, all `[M]`; `elapsed`: steps taken in the episode."""

    task: np.ndarray
    s: np.ndarray
    a: np.ndarray
    s_next: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    elapsed: np.ndarray


class Probe:
    """An environment under check.

    What it does is looked at through its methods alone, of which it may have overridden any. All
    that is costly is made once.
    """

    def __init__(self, env: Any, key: PRNGKeyArray, num_tasks: int) -> None:
        self.env = env
        self.num_tasks = num_tasks
        keys = jax.random.split(key, num_tasks + 1)
        self._task_keys = keys[:-1]
        self._key_play, self._key_starts, self._key_draws, self._key_rest = jax.random.split(
            keys[-1], 4
        )

    # --- calls, in which an exception is a finding ---

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, where an exception is a finding about `name`.

        Raises:
            EnvFailureError: in place of any other exception.
        """
        try:
            return function(*args)
        except EnvFailureError:
            raise
        except Exception as error:
            raise EnvFailureError(as_finding(self.env, name, error)) from error

    def get(self, name: str) -> Any:
        """An attribute."""
        return self.call(name, getattr, self.env, name)

    def method(self, name: str) -> Callable[..., Any]:
        """A method without `jax.jit` around it, so that it is traced anew wherever it is used."""
        function = getattr(type(self.env), name)
        while isinstance(function, jax.stages.Wrapped):
            function = function.__wrapped__  # type: ignore[attr-defined]
        return partial(function, self.env)

    def overrides(self, *names: str) -> bool:
        """Whether any of the base's methods is another one here."""
        own = type(self.env)
        base = Environment if self.is_tabular else TaskDistribution
        return any(getattr(own, name) is not getattr(base, name) for name in names)

    @property
    def is_tabular(self) -> bool:
        """Whether states have indices."""
        return isinstance(self.env, Environment)

    def shape_of(self, name: str, *args: Any) -> Any:
        """Shapes and dtypes of what a method returns for arguments of such.

        Raises:
            EnvFailureError: if it cannot be traced, or changes an argument.
        """
        method = self.method(name)

        def traced(*args: Any) -> Any:
            before = jax.tree.leaves(args)
            result = method(*args)
            if list(map(id, jax.tree.leaves(args))) != list(map(id, before)):
                raise EnvFailureError(_changes_its_arguments(name))
            return result

        return self.call(name, jax.eval_shape, traced, *args)

    def compiled(self, function: Callable[..., Any]) -> jax.stages.Wrapped:
        """The function, jitted to be compiled soon rather than to run fast."""
        on_cpu = jax.default_backend() == "cpu"
        return jax.jit(function, compiler_options=ON_CPU if on_cpu else None)

    # --- shapes of what the methods take ---

    @cached_property
    def key(self) -> Any:
        """The shape of a key."""
        return jax.eval_shape(lambda: jax.random.key(0))

    @property
    def scalar(self) -> Any:
        """The shape of a state index."""
        return jax.ShapeDtypeStruct((), jnp.int32)

    @property
    def action(self) -> Any:
        """The shape of an action."""
        return jax.eval_shape(self.random_action, self.key)

    def random_action(self, key: PRNGKeyArray) -> Array:
        """A random action, int32 or `[n]`. The key is consumed."""
        space = None if self.is_tabular else self.env.action_space()
        if isinstance(space, spaces.Box):
            return jnp.asarray(space.sample(key), float)
        return jnp.int32(jax.random.uniform(key) * self.num_actions)

    @cached_property
    def task(self) -> Any:
        """The shape of a task."""
        return self.shape_of("sample_task", self.key)

    def keys(self, n: int) -> Iterator[PRNGKeyArray]:
        """Keys for single calls, the same at each call."""
        return iter(jax.random.split(jax.random.clone(self._key_rest), n))

    # --- random play ---

    @cached_property
    def num_states(self) -> int:
        """S."""
        return int(self.env.num_states)

    @cached_property
    def num_actions(self) -> int:
        """A."""
        return int(self.env.num_actions)

    @cached_property
    def features(self) -> np.ndarray:
        """`[S, F]`."""
        return np.asarray(self.get("state_features"))

    @cached_property
    def replays(self) -> tuple[Play, ...]:
        """A program's play, the same program's again and, if it is another, that of one made anew.

        It plays every task once.
        """
        key = jax.random.clone(self._key_play)
        keys = (self._task_keys, jax.random.split(key, self.num_tasks))

        def lowered() -> jax.stages.Lowered:
            program = self.compiled(jax.vmap(self._play))
            return self.call("random play", lambda: program.lower(*keys))

        def run(program: Callable[..., Play]) -> Play:
            return self.call("random play", program, *map(jax.random.clone, keys))

        play, anew = lowered(), lowered()
        program = play.compile()
        plays = (run(program), run(program))
        return plays if play.as_text() == anew.as_text() else (*plays, run(anew.compile()))

    @property
    def play(self) -> Play:
        """Play in all tasks, on the device."""
        return self.replays[0]

    @cached_property
    def has_model(self) -> bool:
        """Whether there is a `tabular`; one that fails is one as well."""
        if not self.is_tabular:
            return False
        try:
            jax.eval_shape(self.env.tabular, self.task)
        except NotImplementedError:
            return False
        except Exception:  # which the checks will find
            return True
        return True

    @cached_property
    def model(self) -> Any:
        """The models of all tasks, a `TabularModel` of NumPy arrays `[T, ...]`."""
        return jax.tree.map(np.asarray, self.play.model)

    @cached_property
    def walk(self) -> Walk:
        """The walks through all tasks, but for states of any kind."""
        return jax.tree.map(np.asarray, self.play.walk._replace(state=None))

    @property
    def _walk_steps(self) -> int:
        least, most = WALK_STEPS
        return min(max(least, 2 * (self.env.task_horizon or 0) + 2), most)

    def _play(self, task_key: PRNGKeyArray, key: PRNGKeyArray) -> Play:
        key_reset, key_walk = jax.random.split(key)
        task = self.method("sample_task")(task_key)
        obs, state = self.method("reset")(key_reset, task)
        step = self.method("step")

        def walk_on(carry: Any, _: None) -> tuple[Any, Walk]:
            key, key_action, key_step = jax.random.split(carry[0], 3)
            action = self.random_action(key_action)
            obs, after, reward, terminated, truncated, info = step(key_step, carry[1], action, task)
            return (key, after), Walk(
                index=self.env.learner_state(after),
                state=after,
                obs=obs,
                next_index=self.env.entered_state(info),
                action=action,
                reward=jnp.asarray(reward, float),
                terminated=terminated,
                truncated=truncated,
                final_obs=info.get("final_observation"),
            )

        _, walk = jax.lax.scan(walk_on, (key_walk, state), length=self._walk_steps)
        first = (self.env.learner_state(state), state, obs)
        index, states, all_obs = jax.tree.map(
            lambda x, xs: jnp.concatenate([jnp.asarray(x)[None], xs]),
            first,
            (walk.index, walk.state, walk.obs),
        )
        model = jax.tree.map(jnp.asarray, self.method("tabular")(task)) if self.has_model else ()
        return Play(task, model, walk._replace(index=index, state=states, obs=all_obs))

    # --- independent draws ---

    @cached_property
    def starts(self) -> np.ndarray:
        """`[T, STARTS]`, state indices after resets."""
        reset = self.method("reset")

        def start(key: PRNGKeyArray, task: Any) -> Int[Array, ""]:
            return self.env.state_index(reset(key, task)[1])

        keys = jax.random.split(jax.random.clone(self._key_starts), (self.num_tasks, STARTS))
        starts = self.compiled(jax.vmap(jax.vmap(start, (0, None))))
        return np.asarray(self.call("reset", starts, keys, self.play.task))

    @cached_property
    def sample(self) -> Sample:
        """The walks' steps, and independent draws, as one list."""
        walk = self.walk
        walked = self._columns(
            walk.index[:, :-1],
            walk.action,
            walk.next_index,
            walk.reward,
            walk.terminated,
            walk.truncated,
            self.elapsed,
        )
        sample = Sample(*(np.concatenate(pair) for pair in zip(walked, self._drawn, strict=True)))
        of_interest = self.reachable[sample.task, sample.s]
        return Sample(*(column[of_interest] for column in sample))

    @cached_property
    def reachable(self) -> np.ndarray:
        """`[T, S]`: states that steps are taken from, in the walks or by the model."""
        reachable = np.zeros((self.num_tasks, self.num_states), bool)
        for task, start in enumerate(self.model.start):
            leads_to = (self.model.transition_probs[task] > 0).any(axis=1)
            live = ~self.model.terminal[task]
            known = start > 0
            known[self.walk.index[task, :-1]] = True
            new = known = known & live
            while new.any():
                new = leads_to[new].any(axis=0) & live & ~known
                known = known | new
            reachable[task] = known
        return reachable

    @cached_property
    def elapsed(self) -> np.ndarray:
        """`[T, N]`, steps taken in its episode when each step of the walks is done."""
        step = np.arange(self.walk.done.shape[1])
        ended = np.where(self.walk.done, step + 1, 0)[:, :-1]
        last_end = np.maximum.accumulate(np.pad(ended, ((0, 0), (1, 0))), axis=1)
        return step + 1 - last_end

    @cached_property
    def _drawn(self) -> Sample:
        """Draws from every pair, where states can be made up, else from the states walked through.

        As many at the start of an episode as just before its time is up.
        """
        n_tasks, states = self.num_tasks, self.play.walk.state
        if type(states) is EnvState:
            times = sorted({0, (self.env.task_horizon or 1) - 1})
            sizes = (self.num_states, self.num_actions, len(times))
            s, a, time = np.indices(sizes, np.int32).reshape(3, -1)
            time = np.asarray(times, np.int32)[time]
            s, a, time = (np.tile(x, (n_tasks, 1)) for x in (s, a, time))
            states, elapsed = EnvState(time=jnp.asarray(time), index=jnp.asarray(s)), time + 1
        else:
            states = jax.tree.map(lambda x: x[:, :-1], states)
            s, a, elapsed = self.walk.index[:, :-1], self.walk.action, self.elapsed
        least, most = DRAWS_OF_A_PAIR
        n = int(np.clip(DRAWS // s.size, least, most))
        step = self.method("step")

        def draw(key: PRNGKeyArray, state: Any, action: Any, task: Any) -> tuple[Array, ...]:
            _, _, reward, terminated, truncated, info = step(key, state, action, task)
            return info["next_state_index"], jnp.asarray(reward, float), terminated, truncated

        draws = jax.vmap(draw, (0, None, None, None))
        draws = self.compiled(jax.vmap(jax.vmap(draws, (0, 0, 0, None))))
        keys = jax.random.split(jax.random.clone(self._key_draws), (*s.shape, n))
        drawn = self.call("step", draws, keys, states, jnp.asarray(a), self.play.task)
        return self._columns(s[..., None], a[..., None], *drawn, elapsed[..., None])

    def _columns(self, *columns: Any) -> Sample:
        """Columns of `[T, N]`, or `[T, N, n]`, as a sample; those with one n hold for all."""
        tasks = np.arange(self.num_tasks).reshape(-1, *(1 for _ in columns[0].shape[1:]))
        arrays = np.broadcast_arrays(tasks, *(np.asarray(x) for x in columns))
        return Sample(*(x.ravel() for x in arrays))


Check = Callable[[Probe], Iterator[EnvFinding]]
"""What is wrong in one respect."""


def _changes_its_arguments(name: str) -> EnvFinding:
    return EnvFinding(
        "task-changed",
        f"{name} changes an argument of its own, the task or the state, in place",
        "return new values and leave arguments as they are; a task never changes",
    )
