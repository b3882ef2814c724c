"""`python -m experiments.task_identification`: appendix D of the paper, are Q-estimates enough?

RL³ adds to what RL² sees the values Q that object-level RL estimates, and visit counts N. Do these
tell tasks apart? How the appendix measures it is not known to us, so the definitions are ours:

Duplicates. Tasks with the same exact values cannot be told apart by Q, however long one looks. The
distance of two tasks is the largest difference of their tables, max |Q(s, a) − Q'(s, a)|; a task
has a duplicate within δ if any other of N tasks is that near. There are two exact tables: Q*, the
optimal discounted values; and Q∞, what the learner's Q_t tends to, as it plans by few sweeps.

Classifier. From what a uniformly random policy has found after t env steps in each of two
meta-episodes, were they in the same task? Half of the pairs are; chance is 50 %. The classifier is
a network on means over pairs of state and action (deep sets), trained for every t on tasks of its
own; what it reaches is a lower bound of what can be told. It is shown Q and N, Q alone, or the
whole estimated model, whose statistics are sufficient. An upper bound is the accuracy of the
posterior odds, which have a closed form here.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.scipy.special import betaln, gammaln
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

import rl3jax
from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, Measured
from experiments.gathered import Gathered
from experiments.results import Curve, Result
from experiments.rows import Row
from rl3jax import object_level, statistics

STEPS = (10, 30, 100, 300, 1000)
"""Env steps after which Q-estimates are looked at."""

N_TASKS = {"quick": 500, "cpu": 4000, "paper": 20_000}
"""Tasks among which duplicates are looked for, and on which classifiers are tested."""

TRAINING_TASKS = 4
"""Tasks that classifiers learn from, for each of those."""

DISCOUNT, SMOOTHING = 0.95, 0.1
"""Of object-level RL, as published."""

SWEEPS_TO_CONVERGE = 400
"""0.95^400 is 1e-9."""

ABSOLUTE, RELATIVE = (0.01, 0.1, 1.0), (0.01, 0.1, 0.25)
"""Distances δ: in reward units, and as fractions of the median distance of two tasks."""

WIDTH, BATCH, EPOCHS, LEARNING_RATE = 32, 100, 10, 1e-2
"""Of the classifiers and their training."""

BLOCK = 250
"""Tasks at a time, to bound memory."""

LEVELS = np.linspace(0.0, 1.0, 101)
"""Quantiles that are kept of a distribution over tasks."""


class Evidence(NamedTuple):
    """What was found out about a task.

    Attributes:
        q: `[S, A]`, the learner's values.
        visits: `[S, A]`, how often each action was taken in each state.
        rewards: `[S, A]`, sums of the rewards.
        transitions: `[S, A, S]`, how often each next state followed.
    """

    q: jax.Array
    visits: jax.Array
    rewards: jax.Array
    transitions: jax.Array


# --- domains ------------------------------------------------------------------------------------


def log_likelihood_of_mdp(evidence: Evidence) -> jax.Array:
    """Of the data under the prior, up to terms that do not depend on what task they are of.

    Rewards are N(R, 1) about R ~ N(1, 1), next states of Dirichlet(1) distributions.
    """
    visits, counts = evidence.visits, evidence.transitions
    deviation = evidence.rewards - visits
    rewards = deviation**2 / (2 * (1 + visits)) - jnp.log1p(visits) / 2
    num_states = float(counts.shape[-1])
    successors = gammaln(num_states) - gammaln(num_states + visits) + gammaln(1 + counts).sum(-1)
    return jnp.sum(rewards + successors)


def log_likelihood_of_bandit(evidence: Evidence) -> jax.Array:
    """Of the data under the prior: success probabilities are U(0, 1)."""
    successes, failures = evidence.rewards, evidence.visits - evidence.rewards
    return jnp.sum(betaln(1 + successes, 1 + failures))


@dataclass(frozen=True)
class Domain:
    """Tasks to tell apart.

    Attributes:
        title: in tables.
        env: name of the environment.
        options: of the environment.
        max_sweeps: of the learner's planning, as published.
        log_likelihood: of the evidence under the prior over tasks.
    """

    title: str
    env: str
    options: Mapping[str, int]
    max_sweeps: int
    log_likelihood: Callable[[Evidence], jax.Array]


MDP_OPTIONS = {
    "mdp-10x5": {"num_states": 10, "num_actions": 5},
    "mdp-3x2": {"num_states": 3, "num_actions": 2},
}

DOMAINS = {
    name: Domain(
        f"MDPs, S = {options['num_states']}, A = {options['num_actions']}",
        "mdp",
        options,
        max_sweeps=10,
        log_likelihood=log_likelihood_of_mdp,
    )
    for name, options in MDP_OPTIONS.items()
}
DOMAINS["bandit-5"] = Domain(
    "Bandits, 5 arms",
    "bandit",
    {"num_arms": 5},
    max_sweeps=1,
    log_likelihood=log_likelihood_of_bandit,
)


def rows(preset: str) -> list[Row]:
    """One a domain."""
    return [
        Row(name, domain.title, domain.env, "iid", horizon=100, n_tasks=N_TASKS[preset])
        for name, domain in DOMAINS.items()
    ]


# --- duplicates ---------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="num_sweeps")
def exact_q(model: rl3jax.TabularModel, num_sweeps: int) -> jax.Array:
    """`[S, A]` after so many sweeps of value iteration in the true model, from 0."""

    def sweep(_: Any, q: jax.Array) -> jax.Array:
        v = jnp.where(model.terminal, 0.0, q.max(axis=1))
        return model.mean_reward + DISCOUNT * model.transition_probs @ v

    return jax.lax.fori_loop(0, num_sweeps, sweep, jnp.zeros_like(model.mean_reward))


def distance(q: jax.Array, other: jax.Array) -> jax.Array:
    """Largest difference over states and actions, the last two axes."""
    return jnp.abs(q - other).max(axis=(-2, -1))


@jax.jit
def nearest_other(q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each of N tables `[N, S, A]` the nearest other one: how far it is, and which."""

    def of_one(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        distances = distance(q, q[i][None]).at[i].set(jnp.inf)
        return distances.min(), distances.argmin()

    return jax.lax.map(of_one, jnp.arange(len(q)), batch_size=BLOCK)


def duplicates(q: jax.Array) -> dict[str, Any]:
    """How near tables `[N, S, A]` come to each other, and whether it matters to greedy policies.

    The i-th task and the one before it stand for any two.
    """
    nearest, neighbour = nearest_other(q)
    apart = distance(q, jnp.roll(q, 1, axis=0))
    deltas = [*ABSOLUTE, *(fraction * float(jnp.median(apart)) for fraction in RELATIVE)]
    policy = q.argmax(axis=-1)
    return {
        "apart": quantiles(apart),
        "nearest": quantiles(nearest),
        "within": [int((nearest <= delta).sum()) for delta in deltas],
        "nearest_agree": float((policy == policy[neighbour]).mean()),
        "apart_agree": float((policy == jnp.roll(policy, 1, axis=0)).mean()),
    }


def estimation_errors(q: jax.Array, limit: jax.Array) -> list[dict[str, Any]]:
    """How far each Q_t, `[T, N, S, A]`, is from what it tends to, beside the nearest other task."""
    nearest, _ = nearest_other(limit)
    errors = distance(q, limit[None])
    return [
        {"error": quantiles(error), "other_is_nearer": float((nearest <= error).mean())}
        for error in errors
    ]


def quantiles(x: jax.Array) -> list[float]:
    """At `LEVELS`, to six significant digits."""
    return [float(f"{value:.6g}") for value in np.quantile(np.asarray(x), LEVELS)]


# --- meta-episodes ------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0, 1))
def twice_in_each(env: Any, learner: Any, tasks: Any, key: jax.Array) -> Evidence:
    """Evidence after each of `STEPS`, in two meta-episodes in each of N tasks: `[T, N, 2, ...]`."""

    def in_task(task_and_key: tuple[Any, jax.Array]) -> Evidence:
        task, key = task_and_key
        return jax.vmap(partial(meta_episode, env, learner, task))(jax.random.split(key))

    keys = jax.random.split(key, jax.tree.leaves(tasks)[0].shape[0])
    evidence = jax.lax.map(in_task, (tasks, keys), batch_size=BLOCK)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), evidence)


def meta_episode(env: Any, learner: Any, task: Any, key: jax.Array) -> Evidence:
    """What the uniformly random policy has found in a task after each of `STEPS`, `[T, ...]`."""
    key_reset, key_steps = jax.random.split(key)
    # Plans start from 0, so only those that are looked at need all their sweeps.
    recorder = dataclasses.replace(learner, max_sweeps=1)

    def step(learner: Any, t: Any, carry: Any) -> Any:
        env_state, table = carry
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        s = env.state_index(env_state)
        a = jax.random.randint(key_act, (), 0, env.num_actions)
        _, env_state, r, terminated, _, info = env.step(key_env, env_state, a, task)
        return env_state, learner.update(table, s, a, r, info["next_state_index"], terminated)

    def go_on(carry: Any, span: Any) -> tuple[Any, Evidence]:
        first, last = span
        carry = jax.lax.fori_loop(first, last, partial(step, recorder), carry)
        carry = step(learner, last, carry)
        return carry, evidence_in(learner, carry[1])

    start = env.reset(key_reset, task)[1], learner.init()
    spans = jnp.array((0, *STEPS[:-1])), jnp.array(STEPS) - 1
    return jax.lax.scan(go_on, start, spans)[1]


def evidence_in(learner: Any, table: Any) -> Evidence:
    """What a learner's table holds."""
    model = table.model
    return Evidence(learner.q_table(table), model.visits.T, model.rewards.T, model.counts.T)


# --- classifier ---------------------------------------------------------------------------------


def see_q(one: Evidence, other: Evidence) -> jax.Array:
    """Features of Q alone."""
    x, y = values(one), values(other)
    return jnp.concatenate([jnp.abs(x - y), x + y], axis=-1)


def see_q_and_counts(one: Evidence, other: Evidence) -> jax.Array:
    """Features of Q and N."""
    return with_counts(values(one), values(other), one, other)


def see_model(one: Evidence, other: Evidence) -> jax.Array:
    """Features of mean rewards, transition frequencies and N."""
    return with_counts(frequencies(one), frequencies(other), one, other)


def values(evidence: Evidence) -> jax.Array:
    """`[S, A, 2]`: Q, and what of it is not common to the whole table."""
    return jnp.stack([evidence.q, evidence.q - evidence.q.mean()], axis=-1)


def frequencies(evidence: Evidence) -> jax.Array:
    """`[S, A, 1 + S]`: mean reward and shares of the next states; 0 where never tried."""
    sums = jnp.concatenate([evidence.rewards[..., None], evidence.transitions], axis=-1)
    return sums / jnp.maximum(evidence.visits, 1)[..., None]


def with_counts(x: jax.Array, y: jax.Array, one: Evidence, other: Evidence) -> jax.Array:
    """Features of estimates x and y, `[S, A, C]`, and of the counts that they rest on."""
    n, m = one.visits[..., None], other.visits[..., None]
    # A difference of means has variance in proportion to 1/n + 1/m.
    precision = jnp.sqrt(n * m / jnp.maximum(n + m, 1))
    gap = jnp.abs(x - y)
    counts = [(n + m) / 10, jnp.abs(n - m) / 10, precision]
    return jnp.concatenate([gap, precision * gap, x + y, *counts], axis=-1)


INPUTS: dict[str, Callable[[Evidence, Evidence], jax.Array]] = {
    "q-counts": see_q_and_counts,
    "q": see_q,
    "model": see_model,
}
"""From a pair of meta-episodes to features `[S, A, F]`, the same in either order."""


class Classifier(nn.Module):
    """From features `[S, A, F]` to the logit of "the same task"."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(WIDTH)(x))
        x = nn.relu(nn.Dense(WIDTH)(x.mean(axis=(0, 1))))
        return nn.Dense(1)(x)[0]


def pairs(twice: Evidence) -> tuple[Evidence, Evidence, Evidence]:
    """A first meta-episode in each of N tasks, a second there, and one in another task."""
    one, second = (jax.tree.map(lambda x, i=i: x[:, i], twice) for i in (0, 1))
    return one, second, jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), second)


def trained_logits(inputs: str, training: Evidence, test: Evidence, key: jax.Array) -> jax.Array:
    """Trains a classifier on N tasks' `[N, 2, ...]`; its logits on others'.

    Returns:
        `[2, M]`, those of pairs of the same task, and of different tasks.
    """
    key_init, key_order = jax.random.split(key)
    features, net = INPUTS[inputs], Classifier()
    one, second, elsewhere = pairs(jax.tree.map(lambda x: x[:BLOCK], training))
    sample = jnp.stack([jax.vmap(features)(one, other) for other in (second, elsewhere)])
    axes = (0, 1, 2, 3)
    mean, std = sample.mean(axes, keepdims=True)[0], sample.std(axes, keepdims=True)[0]

    def logits(params: Any, one: Evidence, second: Evidence, elsewhere: Evidence) -> Any:
        x = jnp.stack([features(one, second), features(one, elsewhere)])
        return jax.vmap(partial(net.apply, params))((x - mean) / jnp.maximum(std, 1e-6))

    def loss(params: Any, batch: Evidence) -> jax.Array:
        same, different = jax.vmap(partial(logits, params))(*pairs(batch)).T
        return jnp.mean(nn.softplus(-same) + nn.softplus(different))

    def update(carry: tuple[Any, Any], chosen: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, moments = carry
        grads = jax.grad(loss)(params, jax.tree.map(lambda x: x[chosen], training))
        updates, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(params, updates), moments), None

    order = batches(len(training.q), key_order)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, len(order)))
    params = net.init(key_init, sample[0, 0])
    (params, _), _ = jax.lax.scan(update, (params, optimizer.init(params)), order)
    return jax.lax.map(lambda x: logits(params, *x), pairs(test), batch_size=BLOCK).T


@partial(jax.jit, static_argnums=0)
def trained_logits_by_step(
    inputs: str, training: Evidence, test: Evidence, keys: jax.Array
) -> jax.Array:
    """`trained_logits` of each of T numbers of steps, `[T, 2, M]`."""
    return jax.lax.map(lambda x: trained_logits(inputs, *x), (training, test, keys))


def batches(n: int, key: jax.Array) -> jax.Array:
    """Indices below `n` for every update, `[updates, batch]`; each at most once an epoch."""
    size = min(BATCH, n)
    permuted = jax.vmap(partial(jax.random.permutation, x=n))(jax.random.split(key, EPOCHS))
    return permuted[:, : n // size * size].reshape(-1, size)


@partial(jax.jit, static_argnums=0)
def posterior_log_odds(
    log_likelihood: Callable[[Evidence], jax.Array], test: Evidence
) -> jax.Array:
    """The logits `[2, M]` that cannot be bettered."""

    def log_odds(one: Evidence, other: Evidence) -> jax.Array:
        both = jax.tree.map(jnp.add, one, other)
        return log_likelihood(both) - log_likelihood(one) - log_likelihood(other)

    one, second, elsewhere = pairs(test)
    return jnp.stack([jax.vmap(log_odds)(one, other) for other in (second, elsewhere)])


def quality(logits: np.ndarray) -> dict[str, float]:
    """Of logits `[2, M]`: accuracy, its standard error over tasks, and the area under the ROC."""
    same, different = logits
    is_right = ((same > 0).astype(float) + (different <= 0)) / 2
    accuracy, stderr = statistics.mean_and_stderr(is_right)
    n = len(same)
    ranks = stats.rankdata(np.concatenate([same, different]))[:n]
    auc = float((ranks.sum() - n * (n + 1) / 2) / n**2)
    return {"accuracy": accuracy, "stderr": stderr, "auc": auc}


def classify(
    log_likelihood: Callable[[Evidence], jax.Array], training: Evidence, test: Evidence, key: Any
) -> dict[str, dict[str, list[float]]]:
    """The quality of every classifier after each of `STEPS`, by what it is shown."""
    keys = jax.random.split(key, (len(INPUTS), len(STEPS)))
    logits = {
        name: trained_logits_by_step(name, training, test, keys_of_steps)
        for name, keys_of_steps in zip(INPUTS, keys, strict=True)
    }
    logits["posterior"] = jax.vmap(partial(posterior_log_odds, log_likelihood))(test)
    return {name: qualities(np.asarray(each)) for name, each in logits.items()}


def qualities(logits: np.ndarray) -> dict[str, list[float]]:
    """`quality` of each of `[T, 2, M]`, a list each."""
    of_steps = [quality(x) for x in logits]
    return {name: [each[name] for each in of_steps] for name in of_steps[0]}


# --- measured -----------------------------------------------------------------------------------


def measure(row: Row, seed: int, agents: dict[str, Any]) -> Measured:
    """Both parts, on tasks drawn for this seed; there are no agents."""
    del agents
    domain = DOMAINS[row.name]
    env = rl3jax.make_env(row.env, variation=row.variation, **domain.options)
    learner = object_level.value_iteration(
        env.num_states, env.num_actions, DISCOUNT, SMOOTHING, domain.max_sweeps
    )
    key_tasks, key_episodes, key_classifiers = jax.random.split(jax.random.key(seed), 3)
    n = row.n_tasks
    tasks = jax.vmap(env.sample_task)(jax.random.split(key_tasks, (1 + TRAINING_TASKS) * n))
    twice = twice_in_each(env, learner, tasks, key_episodes)
    test, training = (jax.tree.map(lambda x, p=p: x[:, p], twice) for p in np.s_[:n, n:])
    models = jax.vmap(env.tabular)(jax.tree.map(lambda x: x[:n], tasks))
    limit, optimal = (
        jax.vmap(partial(exact_q, num_sweeps=sweeps))(models)
        for sweeps in (domain.max_sweeps, SWEEPS_TO_CONVERGE)
    )
    return Measured(
        extra={
            "limit": duplicates(limit),
            "optimal": duplicates(optimal),
            "errors": estimation_errors(test.q[:, :, 0], limit),
            "classifiers": classify(domain.log_likelihood, training, test, key_classifiers),
        }
    )


# --- tables -------------------------------------------------------------------------------------

TABLES = {"limit": "Q∞", "optimal": "Q*"}

SHOWN = {
    "posterior": "posterior odds (best possible)",
    "model": "estimated model",
    "q-counts": "Q and counts",
    "q": "Q alone",
}


def section(found: Gathered) -> str:
    """What both parts found."""
    return "\n\n".join(
        [
            "Do the values that RL³ adds tell tasks apart? No published numbers of this appendix "
            "are at hand, and the definitions are ours.",
            "**Duplicates.** The distance of two tasks is the largest difference of their exact "
            f"tables, in reward units: of Q* (optimal, discount {DISCOUNT:g}), or of Q∞, which the "
            "learner's estimates Q_t tend to, as it plans by few sweeps. The error is the distance "
            "of Q_t from Q∞ after t = H steps of a random policy: that of the state and action "
            "known worst. Two tasks agree in a state if they have the same greedy action there.",
            _by_row(found, DISTANCE_COLUMNS, _distance_lines),
            "How many tasks have a duplicate within a distance, in reward units and in percent of "
            "the median distance of any two tasks:",
            _by_row(found, DUPLICATE_COLUMNS, _duplicate_lines),
            "**Classifier.** Were two meta-episodes, of t steps of a random policy each, in the "
            "same task? Accuracy in %, where chance is 50. A trained classifier is a lower bound "
            "of what can be told from what it is shown; the posterior odds are an upper bound:",
            _by_row(found, QUALITY_COLUMNS, partial(_quality_lines, "accuracy")),
            "Area under the ROC curve, in %:",
            _by_row(found, QUALITY_COLUMNS, partial(_quality_lines, "auc")),
        ]
    )


def _by_row(
    found: Gathered,
    columns: Sequence[str],
    lines_of: Callable[[Row, Sequence[Result]], list[list[str]]],
) -> str:
    """A table of several lines for each row that was run."""
    lines: list[list[str]] = []
    for row in rows("paper"):
        results = found.trained.get(row.name, [])
        if results:
            run = f"{results[0].preset}, {len(results)}"
            lines += [[row.title, run, *cells] for cells in lines_of(row, results)]
        else:
            lines.append([row.title, tables.NOT_RUN, *[tables.NOTHING] * len(columns)])
    return tables.table(["tasks", "preset, seeds", *columns], lines)


DISTANCE_COLUMNS = [
    "table",
    "any two (median)",
    "nearest two (median)",
    "any two agree, %",
    "nearest two agree, %",
    "error at H (median)",
    "tasks with another within the error, %",
]


def _distance_lines(row: Row, results: Sequence[Result]) -> list[list[str]]:
    lines = []
    for table, title in TABLES.items():
        found = [result.extra[table] for result in results]
        medians = [_cell(_median(f[which]) for f in found) for which in ("apart", "nearest")]
        agree = [_cell(100 * f[f"{which}_agree"] for f in found) for which in ("apart", "nearest")]
        lines.append([title, *medians, *agree, tables.NOTHING, tables.NOTHING])
    at_horizon = [result.extra["errors"][STEPS.index(row.horizon)] for result in results]
    lines[0][-2:] = [
        _cell(_median(found["error"]) for found in at_horizon),
        _cell(100 * found["other_is_nearer"] for found in at_horizon),
    ]
    return lines


DUPLICATE_COLUMNS = [
    "table",
    "number of tasks",
    *(f"≤ {delta:g}" for delta in ABSOLUTE),
    *(f"≤ {delta:.0%}" for delta in RELATIVE),
]


def _duplicate_lines(row: Row, results: Sequence[Result]) -> list[list[str]]:
    del row
    return [
        [
            title,
            str(results[0].n_tasks),
            *_cells(result.extra[table]["within"] for result in results),
        ]
        for table, title in TABLES.items()
    ]


QUALITY_COLUMNS = ["what is shown", *(f"t = {t}" for t in STEPS)]


def _quality_lines(what: str, row: Row, results: Sequence[Result]) -> list[list[str]]:
    del row
    lines = []
    for name, title in SHOWN.items():
        found = [result.extra["classifiers"][name] for result in results]
        percent = [100 * np.asarray(f[what]) for f in found]
        if what == "accuracy" and len(found) == 1:
            stderr = 100 * np.asarray(found[0]["stderr"])
            cells = list(map(tables.over_tasks, percent[0], stderr))
        else:
            cells = _cells(percent)
        lines.append([title, *cells])
    return lines


def _cells(of_seeds: Iterable[Iterable[float]]) -> list[str]:
    """A cell for each of several numbers, from a list of them for every seed."""
    return list(map(_cell, zip(*of_seeds, strict=True)))


def _cell(of_seeds: Iterable[float]) -> str:
    """A number over seeds; without a range where all have the same."""
    scores = list(of_seeds)
    decimals = 0 if all(score == round(score) for score in scores) else None
    texts = {tables.number(score, decimals) for score in scores}
    return texts.pop() if len(texts) == 1 else tables.over_seeds(scores)


def _median(at_levels: Sequence[float]) -> float:
    return at_levels[len(LEVELS) // 2]


# --- figures ------------------------------------------------------------------------------------

COLORS = {"posterior": "#222222", "model": "#3d9a6c", "q-counts": "#1f5fa8", "q": "#d1622b"}
ERROR_COLORS = {10: "#a9c9e8", 100: "#4f8fc9", 1000: "#123f73"}


def draw(found: Gathered) -> dict[str, Figure]:
    """Distances of tasks beside errors of estimates, and the accuracy of the classifiers."""
    return {
        "task-identification-distances": _panels(found, _draw_distances, "% of tasks, cumulated"),
        "task-identification-accuracy": _panels(found, _draw_accuracy, "accuracy (%)"),
    }


def _panels(
    found: Gathered, draw_row: Callable[[Axes, Sequence[Result]], None], ylabel: str
) -> Figure:
    """One for each row that was run."""
    shown = [row for row in rows("paper") if row.name in found.trained]
    figure, axes = figures.panels(max(len(shown), 1))
    for axis, row in zip(axes, shown, strict=False):
        axis.set(title=row.title, xscale="log")
        draw_row(axis, found.trained[row.name])
    axes[0].set_ylabel(ylabel)
    if shown:
        figures.legend(figure, axes)
    return figure


def _draw_distances(axis: Axes, results: Sequence[Result]) -> None:
    """Distribution functions over tasks, a line a seed."""
    for result in results:
        limit, errors = result.extra["limit"], result.extra["errors"]
        lines = [
            ("nearest other task", "#222222", limit["nearest"]),
            ("any other task", "#aaaaaa", limit["apart"]),
            *(
                (f"its own estimate, t = {t}", ERROR_COLORS[t], found["error"])
                for t, found in zip(STEPS, errors, strict=True)
                if t in ERROR_COLORS
            ),
        ]
        for label, color, x in lines:
            is_first = result is results[0]
            axis.plot(
                x, 100 * LEVELS, color=color, linewidth=1.4, label=label if is_first else None
            )
    axis.set(xlabel="distance from a task's Q∞ (reward units)", ylim=(0, 100))
    axis.xaxis.set_major_formatter("{x:g}")


def _draw_accuracy(axis: Axes, results: Sequence[Result]) -> None:
    for name, title in SHOWN.items():
        found = [result.extra["classifiers"][name] for result in results]
        curves = [
            Curve.of(STEPS, *(100 * np.asarray(f[k]) for k in ("accuracy", "stderr")))
            for f in found
        ]
        figures.line(axis, curves, title, COLORS[name])
    axis.axhline(50, color="#222222", linestyle=":", linewidth=1, label="chance")
    axis.set(xlabel="env steps t in each meta-episode", ylim=(48, 101))
    axis.set_xticks(STEPS, [str(t) for t in STEPS], minor=False)
    axis.minorticks_off()


EXPERIMENT = Experiment(
    "task_identification", "Task identification by Q-estimates (appendix D)",
    rows, measure, section, draw,
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
