"""Object-level RL: what is learnt of a task, inside a meta-episode, from its own data.

`value_iteration`, `q_learning`, `none` and `abstraction` are the functions that make learners; the
modules of these names are not meant to be reached through the package.
"""

from rl3jax.object_level.abstraction import Abstraction, abstraction
from rl3jax.object_level.base import (
    COUNT,
    LATENT,
    PLAIN,
    REWARD,
    VALUE,
    Estimates,
    Feature,
    Features,
    ObjectLearner,
    State,
    TabularLearner,
    Transitions,
)
from rl3jax.object_level.discretised import Prototypes, Tiles, prototypes, tiles
from rl3jax.object_level.least_squares_value_iteration import (
    LeastSquaresValueIteration,
    least_squares_value_iteration,
)
from rl3jax.object_level.linear_model import LinearModel, linear_model
from rl3jax.object_level.local_model import LocalModel, local_model
from rl3jax.object_level.none import NoLearner, none
from rl3jax.object_level.q_learning import QLearning, q_learning
from rl3jax.object_level.registry import (
    ALGORITHMS,
    OBJECT_LEVEL,
    list_learners,
    make_learner,
)
from rl3jax.object_level.value_iteration import ValueIteration, value_iteration

__all__ = [
    "ALGORITHMS",
    "COUNT",
    "LATENT",
    "OBJECT_LEVEL",
    "PLAIN",
    "REWARD",
    "VALUE",
    "Abstraction",
    "Estimates",
    "Feature",
    "Features",
    "LeastSquaresValueIteration",
    "LinearModel",
    "LocalModel",
    "NoLearner",
    "ObjectLearner",
    "Prototypes",
    "QLearning",
    "State",
    "TabularLearner",
    "Tiles",
    "Transitions",
    "ValueIteration",
    "abstraction",
    "least_squares_value_iteration",
    "linear_model",
    "list_learners",
    "local_model",
    "make_learner",
    "none",
    "prototypes",
    "q_learning",
    "register",
    "tiles",
    "value_iteration",
]

register = OBJECT_LEVEL.register
"""Makes `Config(object_level=name)` know a learner: `register(name, make)`.

Of `make(env, horizon, **options)` all further arguments are options, flags as well.
"""
