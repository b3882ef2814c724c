"""Parts by name: environments, learners, networks, algorithms; and the options of each."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import docstring_parser

from rl3jax.checks import ConfigError, check_choice, shown
from rl3jax.ranges import annotations

Part = TypeVar("Part", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """An argument of what makes a part, as is each field of a dataclass.

    Attributes:
        annotation: its type, with its range.
        default: the part's own, or `REQUIRED`.
    """

    annotation: Any
    default: Any


REQUIRED = inspect.Parameter.empty
"""The default of an option that has to be given."""


@dataclass(frozen=True)
class ChosenPart:
    """A part by its kind and name, with its options."""

    kind: str
    name: str
    part: Any
    options: Mapping[str, Option]

    @property
    def title(self) -> str:
        """Kind and name, for instance "env bandit"."""
        return f"{self.kind} {self.name}"


class Registry(dict[str, Part]):
    """Parts of one kind, by name: classes or functions that make them, whose arguments are options.

    Parts of different kinds are used together, and their options are flat: no two kinds have an
    option of the same name.

    Attributes:
        kind: what `Config` calls the part.
        hidden: arguments that are no options, since others decide them.
    """

    def __init__(self, kind: str, parts: Mapping[str, Part], hidden: Collection[str] = ()) -> None:
        super().__init__()
        self.kind, self.hidden = kind, hidden
        _KINDS.append(self)
        for name, part in parts.items():
            self.register(name, part)

    def register(self, name: str, part: Part) -> None:
        """Makes `part` known by `name`, with its arguments as options.

        Raises:
            ConfigError: if the name is taken, or an option's name by `Config` or by a part that may
                be used together with this one.
        """
        if not name or ":" in name or _source(self.get(name, part)) != _source(part):
            raise ConfigError(
                f"{self.kind} {shown(name)} is taken, or no name (those have no colon)"
            )
        self.check_clashes(name, part)
        self[name] = part

    def find(self, name: Any) -> Part:
        """The part of that name.

        Raises:
            ConfigError: if there is none. The message names the nearest.
        """
        check_choice(self.kind, name, self)
        return self[name]

    def options(self, part: Part) -> dict[str, Option]:
        """What can be said of a part, by name."""
        return {name: o for name, o in _arguments(part).items() if name not in self.hidden}

    def chosen(self, name: str, part: Part | None = None) -> ChosenPart:
        """The part of that name, or `part` by that name, which then need not be registered."""
        part = part or self.find(name)
        return ChosenPart(self.kind, name, part, self.options(part))

    def bind(self, name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
        """What makes the part, with those of the options that are its own and not `None`."""
        part = self.find(name)
        own = self.options(part)
        given = {k: v for k, v in options.items() if k in own and v is not None}
        return functools.partial(part, **given)

    def check_clashes(self, name: str, part: Part) -> None:
        """Raises ConfigError if an option has the name of one of `Config` or of another kind."""
        others = [(kind, kind[other]) for kind in _KINDS if kind is not self for other in kind]
        for option in self.options(part):
            if option in RESERVED:
                raise ConfigError(
                    f"{option} of {self.kind} {name!r} is a field of Config; rename it"
                )
            if any(option in kind.options(other) for kind, other in others):
                raise ConfigError(
                    f"{option} of {self.kind} {name!r} is an option of {owner_of(option)}, which "
                    "may be used together; rename it"
                )


def _source(part: Any) -> tuple[str, str]:
    """Where a part is written: it may be defined anew there, as in a notebook."""
    return part.__module__, part.__qualname__


@functools.cache
def _arguments(part: Callable[..., Any]) -> dict[str, Option]:
    hints = annotations(part)
    parameters = inspect.signature(part).parameters
    return {name: Option(hints.get(name, Any), p.default) for name, p in parameters.items()}


_KINDS: list[Registry[Any]] = []
RESERVED: set[str] = set()
"""Names that no option may have: the fields of Config, which adds them here."""


def owner_of(option: str) -> str | None:
    """The registered parts that have such an option, for instance "network gru or mingru"."""
    for registry in _KINDS:  # those of one kind share options, no others
        names = [name for name, part in registry.items() if option in registry.options(part)]
        if names:
            *others, last = names
            return f"{registry.kind} {', '.join(others)}{' or ' if others else ''}{last}"
    return None


def description_of(part: Any, option: str) -> str:
    """What a docstring of the part, or of a class that it extends, says of an option."""
    sources = part.__mro__[:-1] if isinstance(part, type) else (part,)
    return next((text for s in sources if (text := _descriptions(s).get(option))), "")


@functools.cache
def _descriptions(source: Any) -> dict[str, str]:
    try:
        found = docstring_parser.parse_from_object(source)
    except TypeError:  # of a class whose source nobody has
        found = docstring_parser.parse(source.__doc__ or "")
    return {p.arg_name: " ".join((p.description or "").split()) for p in found.params}
