import ast

import pytest

from tests.mutants.mutation import KINDS, mutants

TOY = '''
"""Docstring: 1 + 1 < 2."""
import jax.numpy as jnp

def toy(x: Float[Array, "2"], y: int | None = 3) -> float | None:
    """Not 1 nor 2."""
    assert x > 1
    if x <= 0:  # ∞ − 1
        raise ValueError(f"{x + 1} − not {2}")
    return jnp.where(x != y, jnp.max(-x), x * y)
'''

EXPECTED = [
    ("constant", 5, "3", "4"),
    ("comparison", 8, "x <= 0", "x < 0"),
    ("constant", 8, "0", "1"),
    (
        "branch", 10,
        "jnp.where(x != y, jnp.max(-x), x * y)", "jnp.where(x != y, x * y, jnp.max(-x))",
    ),
    ("comparison", 10, "x != y", "x == y"),
    ("min/max", 10, "jnp.max(-x)", "jnp.min(-x)"),
    ("sign", 10, "-x", "x"),
    ("sign", 10, "x * y", "x / y"),
]  # fmt: skip


def test_every_change_of_a_toy_function():
    assert [(m.kind, m.line, m.before, m.after) for m in mutants(TOY)] == EXPECTED


def test_a_mutant_is_the_source_with_one_expression_changed():
    for mutant in mutants(TOY):
        start = TOY.splitlines(keepends=True)[: mutant.line - 1]
        at = len("".join(start)) + mutant.column - 1
        assert TOY[at:].startswith(mutant.before)
        end = TOY[at + len(mutant.before) :]
        assert mutant.source == f"{TOY[:at]}({mutant.after}){end}"


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("sign", "a - b", "a + b"),
        ("sign", "a // b", "a * b"),
        ("comparison", "a < b", "a <= b"),
        ("comparison", "a is None", "a is not None"),
        ("comparison", "jnp.equal(a, b)", "jnp.not_equal(a, b)"),
        ("constant", "a[0]", "a[1]"),
        ("constant", "a.sum(axis=1)", "a.sum(axis=2)"),
        ("boolean", "a and b", "a or b"),
        ("boolean", "a & b", "a | b"),
        ("boolean", "not a", "a"),
        ("boolean", "~a", "a"),
        ("boolean", "jnp.logical_not(a)", "a"),
        ("boolean", "f(a, wide=True)", "f(a, wide=False)"),
        ("min/max", "a.argmin()", "a.argmax()"),
        ("min/max", "jnp.maximum(a, b)", "jnp.minimum(a, b)"),
        ("branch", "a if c else b", "b if c else a"),
        ("branch", "jax.lax.cond(c, f, g, x)", "jax.lax.cond(c, g, f, x)"),
    ],
)
def test_kinds(kind, before, after):
    (mutant,) = mutants(before)
    assert mutant.kind == kind
    assert kind in KINDS
    assert ast.dump(ast.parse(mutant.source)) == ast.dump(ast.parse(after))


@pytest.mark.parametrize(
    "source",
    [
        "x: Float[Array, '1'] | None",
        "sizes |= {name: size}",
        "zip(a, b, strict=True)",
        "@dataclass(frozen=True)\nclass C: ...",
        "'+1'",
    ],
)
def test_what_has_no_effect_is_left_alone(source):
    assert not list(mutants(source))
