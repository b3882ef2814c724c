"""The same seed gives the same bits: in another process, and with a checkpoint in between.

`python -m tests.test_determinism` tries every algorithm, network and environment, which takes
minutes; the test has each of them once. docs/method.md has the table of what holds where.
"""

import hashlib
import itertools
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

from rl3jax import Config, make_trainer
from rl3jax.runs.checkpoint import restore_checkpoint, save_checkpoint
from rl3jax.seeding import training_key
from tests import children

SIZES = {
    "bandit": {"num_arms": 2},
    "mdp": {"num_states": 3, "num_actions": 2, "task_horizon": 3},
    "gridworld": {
        "side": 5, "num_obstacle_sets": 1, "obstacle_set_len": 2, "num_water_sets": 1,
        "num_fatal": 1, "min_goal_manhat": 2,
    },
}  # fmt: skip
NETWORKS = ("markov", "gru", "mingru", "s5", "transformer", "varibad")
VARIBAD = {"network": "markov", "belief": "varibad", "head": "hyper"}
COMBINATIONS = [
    *itertools.product(("rl2", "rl3"), NETWORKS, SIZES),
    *itertools.product(("rl3-coarse",), NETWORKS, ("gridworld",)),
]
EACH_ONCE = [
    ("rl2", "transformer", "bandit"),
    ("rl3", "gru", "mdp"),
    ("rl3-coarse", "varibad", "gridworld"),
]


def digest(tree):
    """Of every bit of a pytree."""
    keys = jax.tree.map(
        lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        else x, tree,
    )  # fmt: skip
    data = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(keys))
    return hashlib.sha256(data).hexdigest()


def check_learned(before, after, metrics):
    """Every parameter has moved, and every metric is finite."""
    assert all(np.isfinite(value) for value in metrics.to_dict().values())
    assert before.models.keys() == after.models.keys() >= {"actor", "critic"}
    params = [{name: model.params for name, model in s.models.items()} for s in (before, after)]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), *params)))


def trained(algo, network, env):
    """Digests of a training of two iterations: as it is, and through a checkpoint."""
    base = VARIBAD if network == "varibad" else {"network": network}
    config = Config(
        env=env, algo=algo, **base, width=8, n_tasks=4, minibatches=2, horizon=4,
        epochs=1, **SIZES[env],
    )  # fmt: skip
    trainer = make_trainer(config)
    start = trainer.init(training_key(0))
    first, metrics = trainer.update(start)
    check_learned(start, first, metrics)
    with tempfile.TemporaryDirectory() as folder:
        path = save_checkpoint(Path(folder), 1, first, {})
        restored = restore_checkpoint(path, jax.eval_shape(lambda: first))
    return [digest(trainer.update(state)) for state in (first, restored)]


def check(combinations):
    """Trains them here and in another process, which compiles anew, and compares."""
    names = ["-".join(combination) for combination in combinations]
    process = children.Child("-m", "tests.test_determinism", *names, enable_compilation_cache=False)
    here = {"-".join(combination): trained(*combination) for combination in combinations}
    output, error = process.communicate(timeout=3600)
    assert process.returncode == 0, error
    assert json.loads(output) == here
    for name, (as_it_is, through_a_checkpoint) in here.items():
        assert as_it_is == through_a_checkpoint, name
    assert len({as_it_is for as_it_is, _ in here.values()}) == len(names)  # they are of something


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits():
    check(EACH_ONCE)


if __name__ == "__main__":
    if sys.argv[1:]:
        found = {name: trained(*name.rsplit("-", 2)) for name in sys.argv[1:]}
        sys.stdout.write(json.dumps(found))
    else:
        check(COMBINATIONS)
        sys.stdout.write(f"{len(COMBINATIONS)} combinations: the same bits\n")
