"""Configs of any fields: what is accepted trains, everything else is refused in one line."""

from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl3jax.config import Config
from tests.fuzz import inputs

fast = settings(suppress_health_check=[HealthCheck.too_slow])


def test_every_field_has_values_to_try():
    assert set(inputs.VALID) == set(inputs.FIELDS)


@settings(max_examples=200)
@given(data=st.data())
def test_each_field_takes_its_valid_values(data):
    name = data.draw(st.sampled_from(sorted(inputs.FIELDS)))
    Config(**inputs.PARTS.get(name, {}), **{name: data.draw(inputs.VALID[name])})


@pytest.mark.parametrize("name", sorted(inputs.FIELDS))
def test_a_field_refuses_a_value_in_one_line(name):
    unprintable = 10**5000  # Python refuses to write it
    values = (unprintable, *inputs.NASTY_NUMBERS, *inputs.NASTY_TEXTS, *inputs.NASTY_OTHERS)
    named = inputs.PARTS.get(name, {})
    makers = [partial(Config, **named, **{name: value}) for value in values]
    outcomes = [inputs.outcome(maker) for maker in makers]
    assert inputs.REFUSED in outcomes


@settings(fast, max_examples=100)
@given(inputs.configs())
def test_a_config_makes_a_trainer_or_is_refused(values):
    inputs.config_outcome(values)


@settings(fast, max_examples=2)
@given(inputs.small_configs())
def test_what_is_accepted_trains(values):
    inputs.training_outcome(values)
