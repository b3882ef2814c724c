"""How much memory a traced function holds at its worst moment: an estimate from shapes alone.

A value is held from the equation that makes it to the last one that reads it. Of what compilers do
to such a program, three things matter for its memory, and are taken into account:

- chains of elementwise operations are fused: a value in them has memory only where an operation
  that is not (a matrix product, a loop, …) reads it;
- an operation may write over an operand that nobody reads any more;
- loops update their carry in place, and write what they stack straight into the whole.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

LOOPS = ("scan", "while", "cond")
OPAQUE = (*LOOPS, "dot_general", "conv_general_dilated", "sort", "gather")
"""They read all of their operands from memory, and write all of their results to it."""
STORED = ("reduce", "arg", "cum", "gather", "scatter", "concatenate", "dynamic_update", "random")
"""Beginnings of the names of operations whose results are not fused into what reads them."""


def size_of(tree: Any) -> int:
    """Bytes of a pytree of arrays, or of their shapes."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def peak(function: Callable[..., Any], *args: Any) -> int:
    """Bytes that `function` holds at most beyond its arguments; its results are among them.

    Arguments may be shapes (`jax.ShapeDtypeStruct`). Nothing is compiled or computed.
    """
    return peak_and_shapes(function, *args)[0]


def peak_and_shapes(function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    """The same, and the shapes of the results, from a single trace."""
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return _peak(_opened(jaxpr)), shapes


class _Operation(NamedTuple):
    """An equation, with values as numbers."""

    eqn: core.JaxprEqn
    name: str
    inputs: list[int]
    outputs: list[int]

    @property
    def is_fused(self) -> bool:
        return self.name not in OPAQUE and not self.name.startswith(STORED)

    @property
    def replaceable(self) -> list[int]:
        """Operands that results may be written over."""
        if self.name == "scan":
            first, count = _carry_of_scan(self.eqn)
            return self.inputs[first : first + count]
        if self.name == "while":
            return self.inputs[-len(self.outputs) :]
        return [] if self.name in OPAQUE else self.inputs


class _Values:
    """Values of a program as numbers, and their sizes in bytes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def new(self, var: Any) -> int:
        """A number for a value like `var`."""
        self.sizes.append(_bytes(var.aval))
        return len(self.sizes) - 1

    def number(self, var: Any, names: dict[core.Var, int]) -> int:
        """The one that `var` has, or a new one for a constant."""
        is_known = isinstance(var, core.Var) and var in names
        return names[var] if is_known else self.new(var)

    def size(self, values: Iterable[int]) -> int:
        """Bytes of different values."""
        return sum(self.sizes[v] for v in set(values))


def _bytes(array: Any) -> int:
    return int(array.size) * int(array.dtype.itemsize)


def _peak(jaxpr: core.Jaxpr, owned_from: int | None = None) -> int:
    """Bytes held at most beyond the arguments.

    In the body of a loop, arguments from `owned_from` on are its own: they count, and may be freed;
    those before are the same in every round.
    """
    values = _Values()
    arguments = [values.new(var) for var in jaxpr.invars]
    names = dict(zip(jaxpr.invars, arguments, strict=True))
    operations = list(_operations(jaxpr, names, values))
    results = [names[var] for var in jaxpr.outvars if isinstance(var, core.Var)]

    held: set[int] = set()
    invariant: set[int] = set()
    if owned_from is not None:
        held = set(arguments[owned_from:])
        invariant = _invariant(operations, held, set(arguments[:owned_from]))
    last_read, fused = _lifetimes(operations, results, invariant)
    for value in fused:
        values.sizes[value] = 0
    live = worst = values.size(held)
    for index, operation in enumerate(operations):
        outputs = {v for v in operation.outputs if v in last_read}
        ending = {v for v in operation.inputs if v in held and last_read[v] == index}
        replaceable = ending.intersection(operation.replaceable)
        new = values.size(outputs)
        written_over = min(values.size(replaceable), new)
        within = _within(operation) if operation.name in LOOPS else 0
        worst = max(worst, live + new - written_over + within)
        live += new - values.size(ending)
        held = (held | outputs) - ending
    return worst


def _lifetimes(
    operations: list[_Operation], results: list[int], invariant: set[int]
) -> tuple[dict[int, int], set[int]]:
    """The index of the operation that last reads a value, and which values are fused away.

    Where a fused value is read, what it was made of is read. What is `invariant` in a loop stays.
    """
    last_read = dict.fromkeys(results, len(operations))
    needed = set(results)
    fused: set[int] = set()
    for index, operation in reversed(list(enumerate(operations))):
        read = index
        if invariant.isdisjoint(operation.outputs):
            outside = invariant.intersection(operation.inputs)
            needed |= outside
            last_read.update(dict.fromkeys(outside, len(operations)))
        if operation.is_fused and needed.isdisjoint(operation.outputs):
            fused.update(operation.outputs)
            read = max((last_read.get(v, index) for v in operation.outputs), default=index)
        if operation.name in OPAQUE:
            needed.update(operation.inputs)
        for value in operation.inputs:
            last_read[value] = max(last_read.get(value, -1), read)
    return last_read, fused


def _invariant(operations: list[_Operation], varying: set[int], fixed: set[int]) -> set[int]:
    """Results that are the same in every round of a loop: compilers compute them before it."""
    varying, invariant = set(varying), set(fixed)
    for operation in operations:
        if not varying.isdisjoint(operation.inputs):
            varying.update(operation.outputs)
        elif not invariant.isdisjoint(operation.inputs):
            invariant.update(operation.outputs)
    return invariant - fixed


def _within(operation: _Operation) -> int:
    """Bytes that a loop or a branch holds at most beyond operands and results."""
    params = operation.eqn.params
    if operation.name == "scan":
        return _within_loop(_opened(params["jaxpr"]), *_carry_of_scan(operation.eqn))
    if operation.name == "while":
        body = _opened(params["body_jaxpr"])
        return _within_loop(body, params["body_nconsts"], len(body.outvars))
    branches = [_opened(branch) for branch in params["branches"]]
    return max(max(0, _peak(b) - _size_of_vars(b.outvars)) for b in branches)


def _carry_of_scan(eqn: core.JaxprEqn) -> tuple[int, int]:
    """The first operand that a scan carries on, and how many it carries.

    Told by shapes: what is scanned or stacked has one axis more outside of the body than inside.
    Parameters that say it have other names in other versions of JAX.
    """
    body = _opened(eqn.params["jaxpr"])

    def num_stacked(outside: list[Any], inside: list[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(out.aval.ndim > within.aval.ndim for out, within in pairs)

    num_carry = len(eqn.outvars) - num_stacked(eqn.outvars, body.outvars)
    return len(eqn.invars) - num_stacked(eqn.invars, body.invars) - num_carry, num_carry


def _opened(jaxpr: Any) -> core.Jaxpr:
    """Without the constants that JAX before 0.11 keeps beside it."""
    return jaxpr if isinstance(jaxpr, core.Jaxpr) else jaxpr.jaxpr


def _within_loop(body: core.Jaxpr, first: int, num_carry: int) -> int:
    """The same of a loop whose carry is `num_carry` arguments of its body, from `first` on."""
    carry = _size_of_vars(body.invars[first : first + num_carry])
    return max(0, _peak(body, first) - carry)


def _size_of_vars(variables: Iterable[Any]) -> int:
    return sum(_bytes(var.aval) for var in variables)


def _operations(
    jaxpr: core.Jaxpr, names: dict[core.Var, int], values: _Values
) -> Iterator[_Operation]:
    """The equations, those of inner functions in place of their calls; completes `names`."""
    for eqn in jaxpr.eqns:
        inputs = [values.number(var, names) for var in eqn.invars]
        called = _called(eqn)
        if called is None:
            outputs = [values.new(var) for var in eqn.outvars]
            yield _Operation(eqn, eqn.primitive.name, inputs, outputs)
        else:
            inner = dict(zip(called.invars, inputs, strict=True))
            yield from _operations(called, inner, values)
            outputs = [values.number(var, inner) for var in called.outvars]
        names.update(zip(eqn.outvars, outputs, strict=True))


def _called(eqn: core.JaxprEqn) -> core.Jaxpr | None:
    """The function that an equation calls once, if it does nothing else."""
    if eqn.primitive.name in OPAQUE or eqn.primitive.name.startswith(STORED):
        return None
    for function in core.jaxprs_in_params(eqn.params):
        if len(function.invars) == len(eqn.invars):
            return function
    return None
