"""Where metrics go besides `metrics.jsonl`; `tests/test_train.py` has TensorBoard's."""

import sys
from types import ModuleType, SimpleNamespace

from rl3jax import Config
from rl3jax.loggers import LOGGERS


def test_weights_and_biases_has_a_run_named_after_the_folder(tmp_path, monkeypatch):
    told = []
    run = SimpleNamespace(
        log=lambda line, step: told.append((line, step)), finish=lambda: told.append("finished")
    )
    started = {}
    package = ModuleType("wandb")
    package.init = lambda **options: started.update(options) or run
    monkeypatch.setitem(sys.modules, "wandb", package)
    config = Config(env="mdp", seed=3).resolve()
    logger = LOGGERS["wandb"](config, tmp_path)
    line = {"iteration": 7, "mean_return": 1.5}
    logger.log(line)
    logger.close()
    assert started["name"] == tmp_path.name
    assert started["dir"] == str(tmp_path)
    assert started["config"] == config.to_dict()
    assert told == [(line, 7), "finished"]
