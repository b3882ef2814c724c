"""The table of memories: budgets, command lines, and cells."""

import pytest

import rl3jax
from experiments import memories, training
from experiments.gathered import Gathered
from rl3jax import make_env
from rl3jax.commands import parse
from rl3jax.sweep import SweepArgs


@pytest.mark.parametrize("preset", ["quick", "cpu", "paper"])
def test_all_networks_train_on_equally_many_env_steps(preset):
    for domain, row in zip(memories.DOMAINS, memories.rows(preset), strict=True):
        env = make_env(domain.env, domain.variation)
        assert row.horizon == env.training_horizon(domain.variation)
        for network, trained in row.trainings.items():
            config = rl3jax.Config(**trained.config)
            assert (config.network, config.algo) == (network, "rl2")
            steps = config.n_tasks * config.horizon * config.iterations
            assert 0.5 < steps / 1e6 / domain.millions[preset] <= 1


def test_the_command_line_says_what_is_trained():
    for row in memories.rows("cpu"):
        _, _, *flags = training.command(row.trainings["s5"], seed=3)
        config = parse(SweepArgs, flags, "sweep").config
        assert config == rl3jax.Config(**row.trainings["s5"].config, seed=3)
        rl3jax.make_trainer(config)  # whose parts fit together


def test_the_table_has_every_seed(make_result, assert_tables_are_well_formed):
    row = memories.rows("cpu")[1]
    runs = [{"score": s, "env_steps": [1, 2], "returns": [0.0, s]} for s in (0.25, 0.5)]
    seeds = {network: runs for network in memories.NETWORKS if network != "s5"}
    result = make_result(row, "memories", "cpu", extra={"seeds": seeds | {"s5": []}})
    found = Gathered({row.name: [result]}, {}, [])
    text = memories.section(found)
    assert_tables_are_well_formed(text)
    cell = "0.375 (0.250 … 0.500)"
    cells = [cell, cell, cell, "not yet run", cell, "−0.315", "0.789", "1.000"]
    assert f"| {row.title} | cpu, 2 | {' | '.join(cells)} |" in text
    (figure,) = memories.draw(found).values()
    assert len(figure.axes[0].lines) == 4
