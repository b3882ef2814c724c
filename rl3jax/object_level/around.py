"""Learners around another one, of tables, to which several states are one."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
from jax.typing import ArrayLike
from jaxtyping import Bool, PRNGKeyArray

from rl3jax.checks import ConfigError
from rl3jax.object_level.base import Table, TabularLearner

Around = TypeVar("Around", bound="AroundTables")


@dataclass(frozen=True)
class AroundTables:
    """What such learners share; their own table has that of the other one as `table.learner`.

    Attributes:
        learner: the other one.
    """

    learner: TabularLearner

    def check_learner(self) -> None:
        """Raises ConfigError unless the other one is a learner of tables."""
        if not isinstance(self.learner, TabularLearner):
            raise ConfigError(f"learner must be a TabularLearner, not {self.learner!r:.50}")

    def init_params(self, key: PRNGKeyArray) -> Any:
        """Those of the other learner."""
        return self.learner.init_params(key)

    def bind(self: Around, params: Any) -> Around:
        """The other learner with these parameters."""
        if not jax.tree.leaves(params):
            return self
        return replace(self, learner=self.learner.bind(params))

    def overflowed(self, table: Table) -> Bool[ArrayLike, ""]:
        """Whether the other learner's table did."""
        return self.learner.overflowed(table.learner)


def num_actions_of(learner: Any) -> int:
    """A; of what is no learner anything, since `check_learner` refuses it."""
    return getattr(learner, "num_actions", 1)
