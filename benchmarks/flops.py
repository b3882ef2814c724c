"""Floating-point operations of a compiled program's matrix products.

XLA's own cost analysis counts a loop's body once; here it counts as often as the loop runs.
"""

import math
import re
from typing import Any

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^(?:ROOT )?%?([\w.\-]+) = \(?\w+\[([\d,]*)\]")
DOT = re.compile(r" dot\((?:\w+\[[\d,]*\]\S* )?%?([\w.\-]+),.*lhs_contracting_dims=\{([\d,]*)\}")
TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"\}')
CALLED = re.compile(r"(?:calls|body|to_apply)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|true_computation=%?([\w.\-]+)")


def matrix_flops(compiled: Any) -> float:
    """Of one run of `jax.jit(f).lower(...).compile()`; of a conditional, the dearest branch.

    A loop whose length XLA does not know counts once.
    """
    computations = _computations(compiled.as_text())
    counted: dict[str, float] = {}

    def count(name: str) -> float:
        if name not in counted:
            counted[name] = sum(
                _instruction_flops(line, shapes, count) for line, shapes in bodies(name)
            )
        return counted[name]

    def bodies(name: str) -> list[tuple[str, dict[str, list[int]]]]:
        lines = computations.get(name, [])
        shapes = {m[1]: _dims(m[2]) for line in lines if (m := INSTRUCTION.match(line))}
        return [(line, shapes) for line in lines]

    return count("ENTRY")


def _computations(text: str) -> dict[str, list[str]]:
    """The instructions of every computation, by its name; the entry's is ENTRY."""
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if head := COMPUTATION.match(line):
            lines = computations.setdefault("ENTRY" if line.startswith("ENTRY") else head[1], [])
        elif line != "}":
            lines.append(line)
    return computations


def _instruction_flops(line: str, shapes: dict[str, list[int]], count: Any) -> float:
    if dot := DOT.search(line):
        result = INSTRUCTION.match(line)
        assert result is not None
        contracted = math.prod(shapes[dot[1]][axis] for axis in _dims(dot[2]))
        return 2.0 * math.prod(_dims(result[2])) * contracted
    if branches := BRANCHES.search(line):
        names = branches[1].split(", ") if branches[1] else [branches[2]]
        return max(count(name.lstrip("%")) for name in names)
    trips = TRIPS.search(line)
    return sum(count(name) for name in CALLED.findall(line)) * (int(trips[1]) if trips else 1)


def _dims(text: str) -> list[int]:
    return [int(d) for d in text.split(",") if d]
