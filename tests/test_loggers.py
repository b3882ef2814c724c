"""Where metrics go besides `metrics.jsonl`; `tests/test_train.py` has TensorBoard's."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

from rl3jax import Config
from rl3jax.loggers import LOGGERS


def test_weights_and_biases_has_a_run_named_after_the_folder(tmp_path, monkeypatch):
    told = []
    started = {}

    @contextlib.contextmanager
    def init(**options):
        started.update(options)
        yield SimpleNamespace(log=lambda line, step: told.append((line, step)))
        told.append("finished")

    package = ModuleType("wandb")
    package.init = init
    monkeypatch.setitem(sys.modules, "wandb", package)
    config = Config(env="mdp", seed=3).resolve()
    line = {"iteration": 7, "mean_return": 1.5}
    with LOGGERS["wandb"](config, tmp_path, []) as log:
        log(line | {"explained_variance": float("nan")})
    assert started["name"] == tmp_path.name
    identity = started["id"]
    assert started["dir"] == str(tmp_path)
    assert started["config"] == config.to_dict()
    assert told == [(line, 7), "finished"]
    with LOGGERS["wandb"](config, tmp_path, []):
        assert (started["id"], started["resume"]) == (identity, "allow")
