"""Training from code, one iteration after another."""

import inspect

import jax
import numpy as np
import pytest

from rl3jax import Config, ConfigError, fit, load_agent, make_trainer
from rl3jax.progress import curve


def trainer_of(**changes):
    values = dict(n_tasks=8, horizon=5, iterations=3, minibatches=1, epochs=1, width=4,
                  validation_tasks=5, checkpoint_every=1)  # fmt: skip
    return make_trainer(Config(**values | changes))


def same(state, other):
    for x, y in zip(jax.tree.leaves(state.models), jax.tree.leaves(other.models), strict=True):
        np.testing.assert_array_equal(x, y)


def test_it_trains_as_the_trainer_does_and_goes_on_in_its_folder(tmp_path, capsys):
    trainer = trainer_of()
    told = []
    state, history = fit(
        trainer, jax.random.key(0), callbacks=[lambda state, line: told.append((state, line))]
    )
    assert [line["iteration"] for _, line in told] == [1, 2, 3]
    assert told[-1][0] is state
    assert history["mean_return"].tolist() == [line["mean_return"] for _, line in told]
    assert "iteration 1/3" in capsys.readouterr().out

    run = tmp_path / "run"

    def stop_after_two(_, line):
        if line["iteration"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(trainer, jax.random.key(0), progress=False, callbacks=[stop_after_two], folder=run)
    kept, whole = fit(trainer, jax.random.key(7), progress=False, folder=run)
    assert capsys.readouterr().out == ""
    same(state, kept)
    np.testing.assert_array_equal(whole["mean_return"], history["mean_return"])
    assert whole["validation_return"].shape == (3,)
    assert load_agent(run / "agent").greedy
    assert (run / "curve.png").is_file()
    with pytest.raises(ConfigError, match="horizon"):
        fit(trainer_of(horizon=6), jax.random.key(0), folder=run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(trainer=None), "trainer must be one of rl3jax.make_trainer, not None"),
        (dict(key=0), "key must be one key, as of jax.random.key.*, not 0"),
        (dict(key=jax.random.PRNGKey(0)), "key must be one key"),
        (dict(key=jax.random.split(jax.random.key(0))), "key must be one key"),
        (dict(progress="yes"), "progress must be True or False, not 'yes'"),
        (dict(callbacks=print), "callbacks must be a list of functions, not <built-in"),
        (dict(callbacks=[print, 3]), "callbacks must be a list of functions, not .*3"),
        (dict(folder=""), "folder must be a path or None, not ''"),
        (dict(folder=3), "folder must be a path or None, not 3"),
        (dict(folder=__file__), "test_fit.py is a file; name a folder"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    given = dict(trainer=trainer_of(), key=jax.random.key(0), progress=False) | arguments
    with pytest.raises(ConfigError, match=message) as caught:
        inspect.unwrap(fit)(**given)  # users have no check of annotations
    assert "\n" not in str(caught.value)


def test_curves_go_from_the_lowest_to_the_highest():
    assert curve([3.0]) == "▁"
    assert curve([0.0, 7.0, 3.0]) == "▁█▄"
    assert curve([float("nan"), 0.0, float("inf"), 7.0]) == " ▁ █"  # of what is not finite nothing
    assert curve([float("nan")]) == " "
    assert len(curve(list(range(1000)))) == 20
