"""Command lines in two passes: which parts are named, then the flags of `Config` and of these."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro

from rl3jax.checks import ConfigError, nearest_name, shown
from rl3jax.config.config import Config
from rl3jax.ranges import PLAIN, annotations, unwrap
from rl3jax.registry import REQUIRED, ChosenPart, description_of, owner_of

Args = TypeVar("Args")
CONF: Any = tyro.conf  # whose markers type checkers would take for types
MOST_USED = (
    "env", "variation", "algo", "network", "n_tasks", "horizon", "iterations", "learning_rate",
    "seed", "out",
)  # fmt: skip
"""Fields of Config that help begins with."""
GROUPS = {
    "env": "parts",
    "n_tasks": "sizes",
    "learning_rate": "PPO",
    "value_scale": "observation",
    "devices": "machine",
    "seed": "run",
}
"""Titles of the groups of all others in help, by the field that each begins with."""
NAMING = ("env", "algo", "object_level", "head", "belief", "network", "preset")
"""Flags that decide which others there are; a preset may name the network."""


def parse_flags(args_type: type[Args], argv: Sequence[str], program: str) -> Args:
    """The command line as a dataclass whose field `config` is a `Config`.

    Config's fields and the options of its parts are flags, in a group a part. If the dataclass has
    a field `given`, it holds the names of the flags that were given.

    Raises:
        ConfigError: if a flag is unknown or that of another part, or a value is not allowed.
    """
    naming: type = dataclasses.make_dataclass("Parts", [(n, str | None, None) for n in NAMING])
    asked = [token for token in argv if token not in ("-h", "--help")]
    named: Any
    parsed: Any
    named, _ = tyro.cli(naming, prog=program, args=asked, return_unknown_args=True)
    config = Config(**vars(named))
    argv = _with_values(argv, _switches(config, args_type))
    parsed, unknown = tyro.cli(
        _flags_of(args_type, config), prog=program, args=argv, return_unknown_args=True,
        config=(tyro.conf.FlagConversionOff,),
    )  # fmt: skip
    fields: Any = dataclasses.fields(args_type)  # type: ignore[arg-type]
    if unknown:
        raise ConfigError(_why_unknown(unknown, config, [field.name for field in fields]))
    values: dict[str, Any] = {field.name: getattr(parsed, field.name) for field in fields}
    given = {name: getattr(parsed, name) for name in MOST_USED}
    for i in range(len(GROUPS) + len(config.parts)):
        given |= vars(getattr(parsed, _field(i)))
    values["config"] = Config(**given)
    if "given" in values:
        values["given"] = frozenset(map(_name, filter(_is_flag, argv)))
    return args_type(**values)


def _flags_of(args_type: type, config: Config) -> type:
    """`args_type` with a flag for each field of `config`, and for each option of its parts."""
    hints = annotations(Config)
    own: dict[str, list[tuple[str, Any, Any]]] = {"used": []}
    for field in dataclasses.fields(Config):
        group = own.setdefault(GROUPS.get(field.name, list(own)[-1]), [])
        described = _described(hints[field.name], description_of(Config, field.name))
        if field.name != "options":
            chosen = own["used"] if field.name in MOST_USED else group
            chosen.append((field.name, described, field.default))
    used = _group(own.pop("used"))
    groups = [(_group(fields), title) for title, fields in own.items()]
    for part in config.parts:
        options = [
            (name, _described(option.annotation | None, _help(part, name)), None)
            for name, option in part.options.items()
            if unwrap(option.annotation)[0] in PLAIN
        ]
        groups.append((_group(options), part.title))
    flags = [(_field(i), _titled(group, title), group()) for i, (group, title) in enumerate(groups)]
    made = dataclasses.make_dataclass(
        args_type.__name__,
        [("config", CONF.Suppress[CONF.Fixed[None]], None), *flags],
        bases=(args_type, used),  # whose fields are in the order of bases from last to first
        frozen=True,
    )
    made.__doc__ = args_type.__doc__
    return made


def _field(i: int) -> str:
    return f"group_{i}"


def _group(fields: list[tuple[str, Any, Any]]) -> type:
    return dataclasses.make_dataclass("Group", fields, frozen=True)


def _titled(group: Any, title: str) -> Any:
    return Annotated[CONF.OmitArgPrefixes[group], CONF.arg(name=title)]


def _described(annotation: Any, text: str) -> Any:
    return Annotated[annotation, tyro.conf.arg(help=text)]


def _help(part: ChosenPart, name: str) -> str:
    """What the part says of an option, and what it is if it is not given."""
    default, text = part.options[name].default, description_of(part.part, name)
    if default is REQUIRED:
        return f"{text} It has to be given."
    if default is None:
        return text
    others = "" if part.kind == "env" else "the preset's or the environment's, else "
    return f"{text} None: {others}{default}."


def _switches(config: Config, args_type: type) -> set[str]:
    """Names of all flags that are booleans."""
    own = annotations(args_type)
    inner = [
        annotations(kind)
        for hint in own.values()
        if dataclasses.is_dataclass(kind := unwrap(hint)[0])
    ]
    options = {name: option.annotation for name, option in config.allowed_options.items()}
    return {
        name
        for hints in (own, *inner, options)
        for name, annotation in hints.items()
        if unwrap(annotation)[0] is bool
    }


def _with_values(argv: Sequence[str], switches: set[str]) -> list[str]:
    """The arguments with `--x True` for the boolean `--x`, and `--x False` for `--no-x`."""
    tokens: list[str] = []
    for token, following in zip(argv, [*argv[1:], "-"], strict=False):
        name = _name(token) if _is_flag(token) and "=" not in token else ""
        if name in switches and following.startswith("-"):
            tokens += [token, "True"]
        elif name.removeprefix("no_") in switches and name not in switches:
            tokens += [f"--{name.removeprefix('no_')}", "False"]
        else:
            tokens.append(token)
    return tokens


def _is_flag(token: str) -> bool:
    return token.startswith("--") and len(token) > len("--")


def _name(token: str) -> str:
    """The field of a flag, with or without a value."""
    return token.removeprefix("--").partition("=")[0].replace("-", "_")


def _why_unknown(unknown: Sequence[str], config: Config, others: Sequence[str]) -> str:
    """Whose flag the first unknown one is, or what it may have been meant for; in one line."""
    token = next(filter(_is_flag, unknown), None)
    if token is None:
        return f"unexpected argument {shown(unknown[0])}"
    flag = token.partition("=")[0]
    if owner_of(_name(token)):
        return config.why_not(_name(token))
    names = config.names | set(others)
    flags = [f"--{name.replace('_', '-')}" for name in names - {"config", "given"}]
    return f"unknown flag {shown(flag)}; {nearest_name(flag, flags)}"
