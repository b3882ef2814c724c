"""The command."""

from experiments.command import main
from experiments.task_identification import EXPERIMENT

if __name__ == "__main__":
    main(EXPERIMENT)
