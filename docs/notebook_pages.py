"""Notebooks of the site: executed into Markdown, and as files for Jupyter.

They are Python files in cells, `# %%` and `# %% [markdown]`, in docs/notebooks. Each is executed in
a process of its own: `python docs/notebook_pages.py NOTEBOOK FOLDER`.
"""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "notebooks"
DOWNLOAD = """\
*[Download this notebook]({name}.ipynb). It runs in Jupyter where rl3jax is installed. For
[Colab](https://colab.research.google.com), make a wheel of the repository by `pip wheel --no-deps .`;
there, upload both (File → Upload notebook, and Files), and begin with `!pip install rl3jax-*.whl`.*

"""
"""What a page begins with."""


def cells(source: str) -> list[tuple[bool, str]]:
    """The cells of a notebook: whether it is code, and its text."""
    parts = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [
        (False, re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip())
        if "[markdown]" in kind
        else (True, text.strip())
        for kind, text in pairs
    ]


def as_ipynb(source: str) -> str:
    """The notebook as Jupyter reads it."""
    made = [
        {
            "cell_type": "code",
            "metadata": {},
            "source": text,
            "outputs": [],
            "execution_count": None,
        }
        if is_code
        else {"cell_type": "markdown", "metadata": {}, "source": text}
        for is_code, text in cells(source)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps(
        {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    )


def execute(path: Path, folder: Path) -> str:
    """Executes a notebook in a process of its own; returns its page, and leaves figures behind."""
    command = [sys.executable, __file__, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path.name} fails:\n{done.stderr}")
    return done.stdout


def _page(path: Path, folder: Path) -> str:
    """The page of a notebook that is executed in this process."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names: dict[str, object] = {"__name__": "__main__"}
    page = DOWNLOAD.format(name=path.stem)
    for number, (is_code, text) in enumerate(cells(path.read_text("utf-8"))):
        if not is_code:
            page += f"{text}\n\n"
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, path.name, "exec"), names)
        page += f"```python\n{text}\n```\n\n"
        if printed.getvalue():
            page += f"```text\n{printed.getvalue()}```\n\n"
        for figure in map(plt.figure, plt.get_fignums()):
            name = f"{path.stem}-{number}.png"
            figure.savefig(folder / name, dpi=120, bbox_inches="tight")
            page += f"![{path.stem}, figure]({name})\n\n"
        plt.close("all")
    return page


if __name__ == "__main__":
    print(_page(Path(sys.argv[1]), Path(sys.argv[2])))
