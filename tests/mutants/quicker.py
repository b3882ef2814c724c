"""A pytest plugin for `tests.mutants`, after tests/conftest.py: what makes verdicts quicker."""

import hypothesis
import jax


def pytest_configure() -> None:
    # Programs that the mutants leave as they are need not be compiled again for each.
    jax.config.update("jax_enable_compilation_cache", True)
    # The first counterexample is as good as the smallest.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    parent = hypothesis.settings.get_profile("rl3jax")
    hypothesis.settings.register_profile("mutants", parent, phases=phases)
    hypothesis.settings.load_profile("mutants")
