"""A section of a report: an experiment's tables, and its figures drawn into files."""

import os
from pathlib import Path

from experiments import figures
from experiments.experiment import Experiment
from experiments.gathered import Gathered

HOW_TO_READ = """\
Scores are undiscounted returns of whole meta-episodes on held-out tasks, the same for every agent.
With one seed: mean ± standard error over tasks. With more: interquartile mean over seeds of the
means over tasks, and its 95 % stratified bootstrap interval in [brackets], or in (parentheses) the
range where seeds are too few for one. Differences are paired: by task with one seed, by seed
with more. "Not yet run" is a row whose results are not there. Sources of published numbers:"""


def render(experiment: Experiment, found: Gathered, figure_folder: Path, page: Path) -> str:
    """The section's Markdown for the file `page`; its figures are drawn into `figure_folder`."""
    parts = [f"## {experiment.title}", experiment.section(found)]
    for name, figure in experiment.figures(found).items():
        figures.save(figure, figure_folder / name)
        path = os.path.relpath(figure_folder / f"{name}.png", page.parent)
        parts.append(f"![{name.replace('-', ' ')}]({path})")
    presets = sorted({result.preset for results in found.trained.values() for result in results})
    commands = (f"`python -m experiments.{experiment.name} --preset {p}`" for p in presets)
    if presets:
        parts.append(f"To repeat it: {', '.join(commands)}.")
    parts += [f"- Not used: {problem}" for problem in found.problems]
    return "\n\n".join(part for part in parts if part)
