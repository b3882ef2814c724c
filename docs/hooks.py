"""What the site has beside the pages in this folder: others of the repository, and its commands."""

import atexit
import contextlib
import importlib
import io
import os
import posixpath
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import notebook_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from rl3jax.__main__ import COMMANDS
from rl3jax.envs import ENVIRONMENTS
from rl3jax.networks import NETWORKS
from rl3jax.object_level import ALGORITHMS, OBJECT_LEVEL
from rl3jax.policy import HEADS
from rl3jax.registry import REQUIRED, description_of

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "RESULTS.md": "results.md",
    "benchmarks/NOTES.md": "benchmarks.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository, and what they are called in the site."""
FIGURES = "experiments/results/figures"
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in this folder."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    files.append(File.generated(config, "commands.md", content=commands()))
    for figure in (ROOT / FIGURES).glob("*.png"):
        files.append(File.generated(config, f"figures/{figure.name}", abs_src_path=str(figure)))
    figures = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, figures)
    notebooks = sorted(notebook_pages.FOLDER.glob("*.py"))
    with ThreadPoolExecutor() as threads:  # each waits for a process
        pages = list(threads.map(partial(notebook_pages.execute, folder=figures), notebooks))
    for notebook, page in zip(notebooks, pages, strict=True):
        name, source = f"notebooks/{notebook.stem}", notebook.read_text("utf-8")
        files.append(File.generated(config, f"{name}.md", content=page))
        files.append(
            File.generated(config, f"{name}.ipynb", content=notebook_pages.as_ipynb(source))
        )
    for figure in figures.glob("*.png"):
        files.append(File.generated(config, f"notebooks/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links as they are in the repository lead to the site's pages."""
    here = page.file.src_uri
    source = next((source for source, name in PAGES.items() if name == here), f"docs/{here}")

    def in_site(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        path = PAGES.get(path, path.removeprefix("docs/").replace(FIGURES, "figures"))
        return posixpath.relpath(path, posixpath.dirname(here) or ".")

    return LINK.sub(in_site, markdown)


def commands() -> str:
    """The reference: of commands from their parsers, of parts from their registries."""
    os.environ["COLUMNS"] = "80"
    text = "# Commands\n\n"
    for name, does in COMMANDS.items():
        text += f"## rl3jax.{name}\n\n{does.capitalize()}.\n\n```text\n{_help(name)}```\n\n"
    text += "## Options of parts\n\nThey are flags once the part is named.\n\n"
    for registry in (ENVIRONMENTS, OBJECT_LEVEL, ALGORITHMS, HEADS, NETWORKS):
        for name, part in registry.items():
            text += _options(registry, name, part)
    return text


def _help(name: str) -> str:
    """What a command says of itself."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        importlib.import_module(f"rl3jax.{name}").main(["--help"])
    return printed.getvalue()


def _options(registry: Any, name: str, part: Any) -> str:
    """A part's options as a table; nothing if it has none."""
    rows = [
        f"| `--{option.replace('_', '-')}` | {description_of(part, option)} | {_shown(o.default)} |"
        for option, o in registry.options(part).items()
    ]
    if not rows:
        return ""
    head = f"### --{registry.kind.replace('_', '-')} {name}\n\n| flag | meaning | default |\n"
    return head + "|---|---|---|\n" + "\n".join(rows) + "\n\n"


def _shown(default: Any) -> str:
    if default is REQUIRED:
        return "has to be given"
    return "" if default is None else f"`{default}`"
