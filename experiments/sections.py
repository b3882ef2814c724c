"""The page of an experiment: its tables, and its figures drawn into files."""

import os
from pathlib import Path

from experiments import figures
from experiments.experiment import Experiment
from experiments.gathered import Gathered


def render(experiment: Experiment, found: Gathered, figure_folder: Path, page: Path) -> str:
    """The Markdown for the file `page`; figures are drawn into `figure_folder`."""
    parts = [f"# {experiment.title}", experiment.section(found).rstrip()]
    for name, figure in experiment.figures(found).items():
        figures.save(figure, figure_folder / name)
        parts.append(picture(figure_folder / name, page))
    presets = sorted({result.preset for results in found.trained.values() for result in results})
    commands = (f"`python -m experiments.{experiment.name} --preset {p}`" for p in presets)
    if presets:
        parts.append(f"To repeat it: {', '.join(commands)}.")
    parts += [f"- Not used: {problem}" for problem in found.problems]
    return "\n\n".join(part for part in parts if part)


def picture(stem: Path, page: Path) -> str:
    """Markdown that shows the figure stem.png on the file `page`."""
    return f"![{stem.name.replace('-', ' ')}]({os.path.relpath(f'{stem}.png', page.parent)})"
