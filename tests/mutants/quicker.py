"""A pytest plugin for `tests.mutants`, after tests/conftest.py: what makes verdicts quicker."""

import hypothesis


def pytest_configure() -> None:
    # The first counterexample is as good as the smallest.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    parent = hypothesis.settings.get_profile("rl3jax")
    hypothesis.settings.register_profile("mutants", parent, phases=phases)
    hypothesis.settings.load_profile("mutants")
