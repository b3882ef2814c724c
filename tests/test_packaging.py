"""The project's files agree with each other, and the modules keep to the plan of the house."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import rl3jax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rl3jax"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# The house, lowest floor first, as CONTRIBUTING.md has it. A room imports only from floors below
# its own; rooms on one floor do not know each other. A room is a module or a whole folder.
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The house")[2]
FLOORS = re.findall(r"^\| ((?:`\w+` )+)\|", TABLE, flags=re.MULTILINE)
HOUSE = tuple(tuple(re.findall(r"\w+", floor)) for floor in FLOORS)
COMMANDS = HOUSE[-1]
FLOOR = {room: floor for floor, rooms in enumerate(HOUSE) for room in rooms}
# Pairs that the floors would allow and the plan does not.
STRANGERS = {(room, "envs") for room in ("learning", "networks", "object_level", "policy")}
# Modules of rl3jax/envs named after an environment, or NAME_something, belong to it alone.
ENVIRONMENTS = ("bandit", "random_mdp", "gridworld", "gridnavi", "classic_control", "point_robot",
                "repeat_previous", "t_maze")  # fmt: skip


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(source: str, package: str, modules: set[str]) -> Iterator[str]:
    """Yield what a module's source imports, wherever in it; `package` is where it lives."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in modules else base


def rl3jax_imports(name: str) -> list[str]:
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = imports_of(path.read_text(encoding="utf-8"), package, set(MODULES))
    return [imported for imported in found if imported.split(".")[0] == "rl3jax"]


def room_of(name: str) -> str:
    """Return the room of a module: "rl3jax.envs.bandit" is in "envs", "rl3jax" itself in ""."""
    return [*name.split("."), ""][1]


def environment_of(name: str) -> str | None:
    leaf = name.removeprefix("rl3jax.envs.")
    return next((env for env in ENVIRONMENTS if leaf == env or leaf.startswith(f"{env}_")), None)


def may_import(importer: str, imported: str) -> bool:
    room, other = room_of(importer), room_of(imported)
    if other == "":
        return room in COMMANDS  # they stand above the public surface
    if room == other:
        return True
    if (room, other) in STRANGERS or other not in FLOOR:
        return False
    return FLOOR[other] < FLOOR[room]


# ---- the guards that conftest sets are on ----


def test_reusing_a_key_raises() -> None:
    key = jax.random.key(0)
    jax.random.normal(key)
    with pytest.raises(jax.errors.KeyReuseError):
        jax.random.uniform(key)


def test_reusing_a_key_inside_jit_raises() -> None:
    @jax.jit
    def draw_twice(key: jax.Array) -> jax.Array:
        return jax.random.normal(key) + jax.random.uniform(key)

    with pytest.raises(jax.errors.KeyReuseError):
        draw_twice(jax.random.key(0))


def test_rank_promotion_raises() -> None:
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((3,)) + jnp.ones((2, 3))


def test_annotations_of_rl3jax_are_checked() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("rl3jax"):
            assert type(module.__loader__).__module__.startswith("jaxtyping"), name


# ---- the house ----


def test_every_module_has_a_place_in_the_house() -> None:
    rooms = {room_of(name) for name in MODULES} - {""}
    assert rooms == set(FLOOR), "the table of CONTRIBUTING.md has other rooms"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "rl3jax"])
def test_a_module_imports_only_from_below(name: str) -> None:
    wrong = [imported for imported in rl3jax_imports(name) if not may_import(name, imported)]
    assert not wrong


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "envs"])
def test_environments_do_not_know_each_other(name: str) -> None:
    if name in ("rl3jax.envs", "rl3jax.envs.registry"):
        return
    known = {environment_of(imported) for imported in rl3jax_imports(name)} - {None}
    assert known <= {environment_of(name)}


def test_the_rules_of_the_house_can_fail() -> None:
    assert may_import("rl3jax.trainer", "rl3jax.learning.ppo")
    assert not may_import("rl3jax.learning.ppo", "rl3jax.trainer")
    assert not may_import("rl3jax.networks.gru", "rl3jax.envs.bandit")
    assert not may_import("rl3jax.agent_files", "rl3jax.evaluation")
    assert not may_import("rl3jax.agent", "rl3jax")
    assert may_import("rl3jax.train", "rl3jax")
    assert environment_of("rl3jax.envs.gridworld_maps") == "gridworld"
    modules = {"rl3jax", "rl3jax.envs", "rl3jax.envs.bandit", "rl3jax.config"}
    source = "from . import bandit\nfrom .. import config\nfrom ..config import Config\n"
    found = list(imports_of(source, "rl3jax.envs", modules))
    assert found == ["rl3jax.envs.bandit", "rl3jax.config", "rl3jax.config"]


def test_public_names_exist() -> None:
    missing = [name for name in rl3jax.__all__ if not hasattr(rl3jax, name)]
    assert not missing


def scripts() -> list[Path]:
    return [path for top in ("experiments", "benchmarks") for path in (ROOT / top).rglob("*.py")]


def private_uses(source: str) -> set[str]:
    """Return what a script takes from rl3jax that is not in rl3jax.__all__."""
    tree = ast.parse(source)
    taken, aliases = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "rl3jax":
                    taken |= set(parts[1:2])
                    aliases.add(alias.asname or "rl3jax" if len(parts) == 1 else "rl3jax")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rl3jax":
            inner = (node.module or "").split(".")[1:2]
            taken |= set(inner) or {alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken |= {node.attr} if node.value.id in aliases else set()
    return taken - set(rl3jax.__all__) - {"__version__"}


def test_experiments_and_benchmarks_use_the_public_surface() -> None:
    wrong = {str(path): private_uses(path.read_text(encoding="utf-8")) for path in scripts()}
    assert not {path: names for path, names in wrong.items() if names}


def test_private_uses_are_found() -> None:
    assert private_uses("import rl3jax\nrl3jax.make_trainer; rl3jax.hidden") == {"hidden"}
    assert private_uses("import rl3jax as r\nr.hidden") == {"hidden"}
    assert private_uses("from rl3jax.rollout import rollout") == {"rollout"}
    assert private_uses("from rl3jax import Config, make_env") == set()


# ---- the project's files ----


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def constraints() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pairs}


def test_versions_agree() -> None:
    assert PROJECT["version"] == importlib.metadata.version("rl3jax") == rl3jax.__version__
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_constraints_cover_the_dependencies_and_lie_in_their_ranges() -> None:
    pinned = constraints()
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["dev"] + extras["tensorboard"] + extras["wandb"]
    for requirement in map(Requirement, wanted):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_licence_is_apache_2() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in licence
    assert "The rl3jax authors" in licence
    assert PROJECT["license"] == "Apache-2.0"


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_no_file_names_this_machine_or_a_registry() -> None:
    # Written in pieces so that this file does not find itself.
    paths = r"(?<![\w.$}])/(?:root|work|opt|mnt|(?:home|Users)/\w+)" + "/"
    hosts = "|".join(("pypi" + r"\.org", "python" + "hosted", "index" + "-url", "find" + "-links"))
    pattern = re.compile(f"{paths}|{hosts}")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found
