"""JAX takes dataclasses of different classes for the same pytree, and may run one's program.

A report to JAX, ready to be sent; run this file to see it (jax 0.10.2, CPU).

`PyTreeDef.__eq__` compares what `register_dataclass` registers by its static fields alone, while
`__hash__` takes the class in. So the tree structures of two classes are equal, with hashes that are
not: where they meet in one bucket of a cache, a jitted function runs the program that was compiled
for the other class. Expected: structures of different classes are not equal, as they are not for
classes registered by `register_pytree_node`.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp

CLASSES = 300


def make_class(number: int) -> type:
    """A class without static fields that says its number."""

    def read(self):
        return self.x + number

    fields = [("x", jax.Array)]
    made = dataclasses.make_dataclass(f"Class{number}", fields, namespace={"read": read})
    return jax.tree_util.register_dataclass(made)


@jax.jit
def read(value):
    """The number of the class of `value`."""
    return value.read()


classes = [make_class(number) for number in range(CLASSES)]
one, two = (jax.tree.structure(kind(0.0)) for kind in classes[:2])
said = [f"jax {jax.__version__}; equal: {one == two}; equal hashes: {hash(one) == hash(two)}"]
found = [int(read(kind(jnp.zeros(())))) for kind in classes]
wrong = [(number, got) for number, got in enumerate(found) if number != got]
said.append(f"{len(wrong)} of {CLASSES} classes ran another one's program: {wrong[:5]}")
sys.stdout.write("\n".join(said) + "\n")
