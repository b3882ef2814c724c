"""Meta-trainings: what their command lines say, and which run folders are gone on with."""

import json
import subprocess
from dataclasses import dataclass

import pytest

import rl3jax
from experiments import bandits, continuous, gridworlds, mdps, training, training_curves
from experiments.rows import PRESETS, Training
from experiments.training import TrainingError
from rl3jax.commands import parse
from rl3jax.train import TrainArgs

MODULES = (bandits, mdps, gridworlds, continuous, training_curves)


def trainings(preset):
    """Every training of a preset, by name."""
    rows = [row for module in MODULES for row in module.rows(preset)]
    return {t.name: t for row in rows for t in row.trainings.values()}


EVERY = [(preset, t) for preset in PRESETS for t in trainings(preset).values()]
IDS = [f"{preset}-{t.name}" for preset, t in EVERY]


# --- what is trained ---------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "trained"), EVERY, ids=IDS)
def test_the_command_line_says_what_is_trained(preset, trained):
    module, name, *flags = training.command(trained, seed=3)
    assert (module, name) == ("-m", "rl3jax.train")
    args = parse(TrainArgs, flags, "train")
    # The last policy is scored, so none is validated.
    assert args.config == rl3jax.Config(**trained.config, seed=3, validate_every=0)
    assert (args.resume, args.init_from, args.log) == (None, None, ())


@pytest.mark.parametrize(("preset", "trained"), EVERY, ids=IDS)
def test_it_is_a_training_that_there_is(preset, trained):
    config = rl3jax.make_trainer(rl3jax.Config(**trained.config)).config
    assert config.horizon == trained.config["horizon"]
    assert config.iterations >= 1
    if config.minibatches is not None:
        assert config.n_tasks % config.minibatches == 0
    else:
        assert 1 <= config.minibatch_tasks <= config.n_tasks
    in_paper = config.env in ("bandit", "mdp", "gridworld") and not trained.name.endswith("-kinds")
    if preset == "paper" and in_paper:
        assert config.preset in ("paper-v4", "paper-rlc")
        assert config.network == ("markov" if trained.name.endswith("-markov") else "transformer")


@pytest.mark.parametrize("preset", PRESETS)
def test_trainings_of_one_name_are_the_same(preset):
    """They share a run folder, whatever row or experiment asks for them."""
    by_name = trainings(preset)
    for module in MODULES:
        for row in module.rows(preset):
            for trained in row.trainings.values():
                assert trained == by_name[trained.name], row.name


@pytest.mark.parametrize("preset", PRESETS)
def test_trainings_of_different_names_differ(preset):
    configs = [json.dumps(t.config, sort_keys=True) for t in trainings(preset).values()]
    assert len(configs) == len(set(configs))


@pytest.mark.parametrize("preset", PRESETS)
def test_shifted_rows_are_played_by_agents_trained_on_unshifted_tasks(preset):
    for module in (bandits, mdps, gridworlds):
        for row in module.rows(preset):
            for trained in row.trainings.values():
                variation = trained.config.get("variation", "iid")
                assert trained.config["env"] == row.env
                assert not variation.startswith("ood")
                assert row.variation.startswith((variation, "ood"))
                if not row.name.endswith("-window"):
                    assert trained.config["horizon"] == row.horizon


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_rows_of_the_paper(preset):
    for module in MODULES:
        names = [row.name for row in module.rows(preset)]
        everything = [row.name for row in module.rows("paper")]
        assert names == [name for name in everything if name in names]
        assert preset == "quick" or names == everything
        assert len(names) == len(set(names))


# --- run folders -------------------------------------------------------------------------------

TINY = Training(
    "tiny", {"env": "bandit", "algo": "rl2", "horizon": 10, "n_tasks": 8, "iterations": 3}
)
LINE = {"iteration": 1, "env_steps": 80, "seconds": 2.0, "mean_return": 5.0, "stderr_return": 0.5}


@dataclass
class Run:
    """A run folder as rl3jax.train leaves it, without what nobody here reads."""

    folder: object

    def config(self, **changes):
        self.folder.mkdir(parents=True, exist_ok=True)
        values = rl3jax.Config(**TINY.config, seed=0).resolve().to_dict() | changes
        (self.folder / "config.json").write_text(json.dumps(values))
        return self

    def checkpoint(self, iteration):
        path = self.folder / "checkpoints" / f"{iteration:08d}"
        path.mkdir(parents=True)
        (path / "manifest.json").write_text("{}")
        (self.folder / "agent").mkdir(exist_ok=True)
        return self

    def metrics(self, count, tail=""):
        lines = [
            json.dumps(LINE | {"iteration": i, "env_steps": 80 * i}) for i in range(1, count + 1)
        ]
        (self.folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines) + tail)
        return self

    def provenance(self, entries=({"commit": "a"}, {"commit": "b"})):
        (self.folder / "provenance.json").write_text(json.dumps(entries))
        return self


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "tiny-s0")


@pytest.fixture
def started(monkeypatch):
    """The command lines of processes, which end at once with the exit code `started.code`."""

    class Started(list):
        code = 0

        def run(self, arguments, **options):
            self.append(arguments[1:])
            return subprocess.CompletedProcess(arguments, self.code)

    started = Started()
    monkeypatch.setattr(training.subprocess, "run", started.run)
    return started


def refusal(function, *arguments):
    """The one line of a TrainingError."""
    with pytest.raises(TrainingError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_run_is_finished_after_its_last_iteration_checkpoint_and_agent(run):
    assert not training.is_finished(run.folder)
    run.config()
    assert not training.is_finished(run.folder)
    run.checkpoint(0)
    assert not training.is_finished(run.folder)
    run.metrics(2).checkpoint(2)
    assert not training.is_finished(run.folder)
    run.metrics(3)  # the agent is still that of iteration 2
    assert not training.is_finished(run.folder)
    run.checkpoint(3)
    assert training.is_finished(run.folder)


def test_a_finished_run_may_lose_its_checkpoints(run):
    run.config().metrics(3)
    (run.folder / "agent").mkdir()
    assert training.is_finished(run.folder)


def test_a_new_training_starts_with_its_flags(run, started):
    started.code = 1
    refusal(training.train, TINY, 0, run.folder)
    assert started == [[*training.command(TINY, 0), f"--out={run.folder}"]]


def test_an_interrupted_training_is_resumed(run, started):
    run.config().checkpoint(0).metrics(2).checkpoint(1)
    started.code = 1
    refusal(training.train, TINY, 0, run.folder)
    assert started == [["-m", "rl3jax.train", f"--resume={run.folder}"]]


def test_a_training_killed_before_its_first_checkpoint_starts_anew(run, started):
    """Without a config the folder is no run: there is nothing to resume."""
    (run.folder / "checkpoints" / ".00000000.tmp").mkdir(parents=True)
    refusal(training.train, TINY, 0, run.folder)
    assert started == [[*training.command(TINY, 0), f"--out={run.folder}"]]


def test_a_training_that_lost_its_checkpoints_is_left_alone(run, started):
    run.config().metrics(2)
    refusal(training.train, TINY, 0, run.folder)
    assert (run.folder / "config.json").exists()


def test_a_line_that_a_kill_cut_short_does_not_count(run, started):
    run.config().checkpoint(1).metrics(2, tail='{"iteration": 3, "env_st')
    assert len(training.read_metrics(run.folder)) == 2
    refusal(training.train, TINY, 0, run.folder)
    assert started == [["-m", "rl3jax.train", f"--resume={run.folder}"]]


def test_a_finished_training_is_not_repeated(run, started):
    run.config().metrics(3).checkpoint(3)
    training.train(TINY, 0, run.folder)
    assert started == []


@pytest.mark.parametrize("code", [1, 130, -9])
def test_a_failed_training_names_its_log(run, started, code):
    started.code = code
    message = refusal(training.train, TINY, 0, run.folder)
    assert f"tiny-s0 failed (exit code {code})" in message
    assert str(run.folder / "train.log") in message


def test_a_training_that_ends_well_without_an_agent_has_failed(run, started):
    assert "failed (exit code 0)" in refusal(training.train, TINY, 0, run.folder)


@pytest.mark.parametrize(
    ("name", "value"), [("iterations", 7), ("algo", "rl3"), ("seed", 1), ("n_tasks", 16)]
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_setting_of_the_run_is_named(run, started, name, value, finished):
    run.config(**{name: value}).metrics(7 if finished else 1).checkpoint(7 if finished else 1)
    ours = (TINY.config | {"seed": 0})[name]
    message = refusal(training.train, TINY, 0, run.folder)
    assert f"{run.folder} was trained with {name} = {value!r}" in message
    assert f"this preset says {ours!r}" in message
    assert started == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"iterations": "3"}']
)
def test_a_damaged_config_is_named(run, started, content):
    run.config().metrics(3).checkpoint(3)
    (run.folder / "config.json").write_bytes(content)
    message = refusal(training.train, TINY, 0, run.folder)
    assert f"{run.folder / 'config.json'} is damaged" in message
    assert started == []


@pytest.mark.parametrize("content", [b"{\n", b"\xff\xfe\n", b"[[" * 100_000 + b"\n"])
def test_damaged_metrics_are_named(run, started, content):
    run.config().metrics(3).checkpoint(3)
    (run.folder / "metrics.jsonl").write_bytes(content)
    message = refusal(training.train, TINY, 0, run.folder)
    assert f"{run.folder / 'metrics.jsonl'} is damaged" in message
    assert started == []


def test_the_record_of_a_training(run):
    run.config().metrics(3).checkpoint(3).provenance()
    record = training.record(TINY, 0, run.folder)
    assert record.command == (
        "python -m rl3jax.train --env=bandit --algo=rl2 --horizon=10 --n-tasks=8 --iterations=3 "
        "--validate-every=0 --seed=0"
    )
    assert (record.env_steps, record.iterations, record.seconds) == (240, 3, 6.0)
    assert record.provenance == {"commit": "b"}  # where it ended
    assert record.curve.x == [80, 160, 240]
    assert record.curve.mean == [5.0] * 3
    assert record.curve.stderr == [0.5] * 3


@pytest.mark.parametrize("lines", ["", "{}\n", "[]\n", "3\n", '{"iteration": 3}\n'])
def test_a_record_of_damaged_metrics_is_refused(run, lines):
    run.config().provenance()
    (run.folder / "metrics.jsonl").write_text(lines)
    assert str(run.folder) in refusal(training.record, TINY, 0, run.folder)


@pytest.mark.parametrize("entries", [[], {}, None, 3])
def test_a_record_of_damaged_provenance_is_refused(run, entries):
    run.config().metrics(3).provenance(entries)
    assert str(run.folder) in refusal(training.record, TINY, 0, run.folder)


def test_a_record_without_provenance_names_the_file(run):
    run.config().metrics(3)
    assert str(run.folder / "provenance.json") in refusal(training.record, TINY, 0, run.folder)
