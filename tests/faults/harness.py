"""Real short trainings in processes of their own, and what must hold of them after any fault."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.children import Child

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--algo=rl2", "--n-tasks=8", "--horizon=5", "--minibatches=2", "--epochs=1", "--width=4",
    "--iterations=24", "--validate-every=7", "--validation-tasks=8", "--checkpoint-every=3",
)  # fmt: skip
TIMINGS = ("seconds", "steps_per_second")
DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
SAME, REFUSED = "same", "refused"


class LossError(AssertionError):
    """Something was lost, doubled, half-written or silently wrong; or a traceback was shown."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    output: str
    error: str

    def check(self, *codes: int) -> "Ended":
        """The same, if it ended with one of these exit codes and without a traceback."""
        if "Traceback" in self.error + self.output or self.code not in codes:
            raise LossError(f"exit code {self.code}: {(self.output + self.error)[-2000:]}")
        if self.code == BAD_INPUT and not re.search(r"(?m)^error: .+$", self.error):
            raise LossError(f"no clear line: {self.error}")
        return self


class Harness:
    """A folder to work in, the undisturbed run in it, and ways to disturb others.

    Attributes:
        rng: decides where and when faults strike.
        reference: the run folder of a training that nothing happened to.
    """

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch = scratch
        self.rng = np.random.default_rng(seed)
        self.reference = scratch / "reference"
        self._count = 0
        self._options = {
            "num_cpu_devices": 1,
            "compilation_cache_dir": str(scratch / "compiled"),  # only the first one compiles
            "persistent_cache_min_compile_time_secs": 0.0,
        }
        self.wait(self.start(self.reference)).check(DONE)

    def new_folder(self) -> Path:
        """A path where there is nothing yet."""
        self._count += 1
        return self.scratch / f"run-{self._count:04d}"

    def copy(self, run: Path) -> Path:
        """Another folder with the same files."""
        return Path(shutil.copytree(run, self.new_folder()))

    def start(self, out: Path, *flags: str, fault: tuple[str, int] | None = None) -> Child:
        """A new training into `out`, perhaps one that is struck by a fault."""
        return self.popen(*FLAGS, f"--out={out}", *flags, folder=out, fault=fault)

    def popen(
        self, *arguments: str, folder: Path | None = None, fault: tuple[str, int] | None = None
    ) -> Child:
        """`rl3jax.train` with these arguments, in a process."""
        program = ["rl3jax.train"]
        if fault is not None:
            action, number = fault
            program = ["tests.faults.struck", action, str(number), str(folder)]
        return Child("-m", *program, *arguments, folder=ROOT, **self._options)

    @staticmethod
    def wait(process: Child) -> Ended:
        """The end of a process, which must come."""
        try:
            output, error = process.communicate(timeout=120)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            raise LossError("it hangs") from expired
        return Ended(process.returncode, output, error)

    def recover(self, run: Path) -> str:
        """Goes on with a run after a fault, to the end, which must be that of the reference.

        What was no run yet is started anew, by the same command.
        """
        check_lines(run)
        if (run / "config.json").exists():
            self.wait(self.popen(f"--resume={run}")).check(DONE)
        else:
            self.wait(self.start(run)).check(DONE)
        self.check_same(run)
        return SAME

    def recover_or_refuse(self, run: Path) -> str:
        """The same, but a clear refusal will do as well."""
        ended = self.wait(self.popen(f"--resume={run}")).check(DONE, BAD_INPUT)
        if ended.code == BAD_INPUT:
            return REFUSED
        self.check_same(run)
        return SAME

    def check_same(self, run: Path) -> None:
        """Raises LossError unless metrics and agents are those of the reference, bit for bit."""
        if metrics(run) != metrics(self.reference):
            raise LossError(f"{run}: the metrics differ")
        for name in ("agent/agent.npz", "best_agent/agent.npz"):
            if (run / name).read_bytes() != (self.reference / name).read_bytes():
                raise LossError(f"{run}: {name} differs")
        left = [path for path in run.rglob(".*") if path.name != ".lock"]
        if left:
            raise LossError(f"{run}: {left[0]} was left behind")


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def check_lines(run: Path) -> None:
    """Raises LossError if a line of metrics is missing, doubled or half-written."""
    file = run / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    if text and not text.endswith("\n"):
        raise LossError(f"{file} ends with half a line")
    numbers = [json.loads(line)["iteration"] for line in text.splitlines()]
    if numbers != list(range(1, len(numbers) + 1)):
        raise LossError(f"{file} has the iterations {numbers}")
