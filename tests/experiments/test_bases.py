"""Bases with and without estimates: trained alike, and told of in tables, a sentence, a figure."""

from types import SimpleNamespace

import rl3jax
from experiments import bases
from experiments.gathered import Gathered
from experiments.rows import PRESETS


def test_both_algorithms_and_all_bases_train_alike():
    for preset in PRESETS:
        for domain in bases.DOMAINS:
            own = [row for row in bases.rows(preset) if row.name.startswith(f"base-{domain}-")]
            configs = [dict(t.config) for row in own for t in row.trainings.values()]
            assert len(configs) == 12
            for name in ("env", "horizon", "n_tasks", "minibatches", "iterations"):
                assert len({config[name] for config in configs}) == 1
    for base in bases.BASES:
        row = bases.row("quick", "gridnavi", base)
        for algo, training in row.trainings.items():
            trainer = rl3jax.make_trainer(rl3jax.Config(**training.config))  # whose parts fit
            assert ("value" in trainer.layout.fields) == (algo == "rl3")


def test_what_was_found_is_said():
    def runs(*scores):
        return [{"score": float(score)} for score in scores]

    seeds = {
        "base-mdp-h100-gru": {"rl2": runs(1, 2, 3, 4), "rl3": runs(2, 3, 4, 6)},
        "base-mdp-h100-hyper": {"rl2": runs(2, 2, 2, 2), "rl3": runs(1, 1, 1, 1)},
        "base-mdp-h100-varibad": {"rl2": runs(2, 2, 2, 2), "rl3": runs(1, 3, 3, 3)},
    }
    results = {
        name: [SimpleNamespace(preset="cpu", trainings={}, extra={"seeds": of})]
        for name, of in seeds.items()
    }
    found = Gathered(results, {}, [])
    text = bases.section(found)
    assert "| GRU | cpu, 4 | 2.5 [−0.2, 5.2] | 3.5 [0.0, 7.0] | 1.0 [0.0, 2.0] | 4 of 4 |" in text
    assert (
        "Estimates help with GRU; hinder with GRU, hypernetwork head; "
        "do neither in every seed with VariBAD." in text
    )
    assert text.count("not yet run") == 2 * (24 - 3)
    (figure,) = bases.draw(found).values()
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["random MDP, H = 100"]
    assert bases.draw(Gathered({}, {}, [])) == {}
