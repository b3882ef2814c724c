"""`python -m rl3jax.train`: meta-trains a policy into a run folder."""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro

from rl3jax import debugging, drawing, loggers, processes
from rl3jax.agent import PolicyAgent
from rl3jax.agent_files import load_agent
from rl3jax.checks import ConfigError, shown
from rl3jax.commands import INTERRUPTED, NOT_FINITE, fail, one_line_errors, parse, prepare_jax
from rl3jax.config import Config
from rl3jax.memory import check_memory
from rl3jax.policy import ObservationLayout
from rl3jax.pretrained import locate
from rl3jax.processes import Processes
from rl3jax.progress import Progress
from rl3jax.runs import resume
from rl3jax.runs.folder import RunFolder, new_run
from rl3jax.runs.resume import MAY_CHANGE
from rl3jax.runs.single import DivergedError, Run, RunState, follow, initial_state
from rl3jax.seeding import generator, validation_key
from rl3jax.trainer import Trainer, make_trainer


@dataclass(frozen=True)
class TrainArgs:
    """Meta-train RL³ or RL² on a distribution of tasks, into a run folder."""

    config: tyro.conf.OmitArgPrefixes[Config] = dataclasses.field(default_factory=Config)
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Go on exactly where the run in this folder stopped; of all other flags those may differ from
    the run's that extend it (--iterations) or are of the machine (--devices, --rollout-chunk,
    --gradient-chunk, --memory-limit), and --log. Name the --env of a run in a module:Class
    (default: a new run)."""
    init_from: Annotated[Path | None, tyro.conf.arg(metavar="AGENT")] = None
    """Start from the policy of this agent folder or run folder, or of an agent that comes with the
    package, instead of a fresh one (default: fresh)."""
    debug: bool = False
    """Slowly, with JAX's own checks: NaNs where they arise, random keys used twice, leaked tracers,
    and, in a first meta-episode, indices out of bounds."""
    processes: tyro.conf.OmitArgPrefixes[Processes] = dataclasses.field(default_factory=Processes)
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Log to these as well; each needs its extra installed."""
    given: tyro.conf.Suppress[tyro.conf.Fixed[frozenset[str]]] = frozenset()


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(TrainArgs, argv, "train")
    if argv is None:  # the process is this command's own
        devices, num_processes = args.config.devices, args.processes.num_processes
        prepare_jax(devices // num_processes if devices and num_processes else None)
    with processes.ending_at_once(), one_line_errors():
        loggers.check(args.log)
        processes.join(args.processes)
        try:
            _train(args)
        except DivergedError as error:
            fail(str(error), code=NOT_FINITE)


def _train(args: TrainArgs) -> None:
    """From the beginning to the end; only the first process has a folder."""
    begin = _resume if args.resume else _start
    with ExitStack() as held:
        if args.debug:
            held.enter_context(debugging.jax_checks())
        trainer, folder, state = begin(args, held)
        if folder is None:
            iteration = follow(trainer, state)
            if iteration < trainer.config.iterations:
                print(f"stopped with the others after iteration {iteration}")
        else:
            iteration = _lead(Run(trainer, folder), state, args.log)
        processes.part()
    if iteration < trainer.config.iterations:
        raise SystemExit(INTERRUPTED)


def _start(args: TrainArgs, held: ExitStack) -> tuple[Trainer, RunFolder | None, RunState]:
    """A new run, with a checkpoint of its first state; only the first process has a folder.

    The folder is held until `held` is closed.
    """
    trainer = _make_trainer(args.config)
    state = initial_state(trainer)
    if args.init_from is not None:
        state = _with_policy_of(state, args.init_from, trainer)
    if args.debug:
        debugging.check_indices(trainer, state.train, validation_key())
    if jax.process_index() > 0:
        return trainer, None, state
    folder = held.enter_context(new_run(trainer.config, args.config.out))
    Run(trainer, folder).save(state)
    folder.write_config(trainer.config)  # from now on it is a run, with a checkpoint to go on from
    return trainer, folder, state


def _make_trainer(config: Config) -> Trainer:
    """The trainer of a run that all processes agree on, and that fits into memory."""
    trainer = make_trainer(config)
    processes.check_agreement(trainer.config.to_dict() | generator())
    if trainer.config.draw_every:
        drawing.view_type(trainer.env)
    print(check_memory(trainer))
    return trainer


def _with_policy_of(state: RunState, path: Path, trainer: Trainer) -> RunState:
    """Starts actor and belief from a saved agent; critic and optimisers stay fresh."""
    folder = locate(path)
    agent = load_agent(folder / "agent" if (folder / "agent").is_dir() else folder)
    _check_fits(path, agent, state.best)
    models = state.train.models
    params = {"actor": agent.params, "belief": agent.belief_params}
    started = {
        name: dataclasses.replace(model, params=params[name])
        for name, model in models.items()
        if name in params
    }
    train = dataclasses.replace(
        state.train, models=models | started, learner_params=agent.learner_params
    )
    return dataclasses.replace(state, train=train, best=trainer.agent(train))


def _check_fits(path: Path, agent: PolicyAgent, own: PolicyAgent) -> None:
    """Raises ConfigError, with what differs, unless the saved agent's numbers are of our kinds.

    A memory or a learner that fits may differ in what only its first numbers hang on: the horizon
    of a mingru, the optimism of a plan.
    """

    def shapes(tree: Any) -> Any:
        return jax.tree.map(jnp.shape, tree)

    ignored = {"horizon"} if shapes(agent.params) == shapes(own.params) else set()
    parts = [
        ("observation", _places(agent.layout), _places(own.layout)),
        ("network", _values(agent.network.memory), _values(own.network.memory)),
        ("head", _values(agent.network.head), _values(own.network.head)),
        ("belief", _values(agent.belief), _values(own.belief)),
    ]
    if shapes(agent.learner_params) != shapes(own.learner_params):
        parts.append(("object-level RL", _values(agent.learner), _values(own.learner)))
    for part, its, ours in parts:
        for name in dict.fromkeys((*ours, *its)):
            if its.get(name) != ours.get(name) and name not in ignored:
                raise ConfigError(
                    f"--init-from {path}: its {part} has {name} {shown(its.get(name))}, that of "
                    f"this run {shown(ours.get(name))}"
                )


def _places(layout: ObservationLayout) -> dict[str, Any]:
    """Which numbers show what."""
    return {name: range(span.start, span.stop) for name, span in layout.fields.items()}


def _values(part: Any) -> dict[str, Any]:
    """A part's class and fields, without flax's own."""
    names = [field.name for field in dataclasses.fields(part)]
    values = {name: getattr(part, name) for name in names if name not in ("parent", "name")}
    return {"class": type(part).__name__} | values


def _resume(args: TrainArgs, held: ExitStack) -> tuple[Trainer, RunFolder | None, RunState]:
    """The newest undamaged checkpoint of a run, and its folder as it was then.

    All processes read the folder; only the first one has it afterwards, until `held` is closed.
    """
    assert args.resume is not None
    folder = RunFolder(args.resume)
    config = folder.read_config(args.config.env)
    _check_may_change(args, config)
    if jax.process_index() == 0:
        held.enter_context(folder.held())
    state, description, problems = resume.newest(folder, config)
    for problem in problems:
        print(f"warning: {problem}; falling back to the one before", file=sys.stderr)
    # What may change is that of the checkpoint: config.json is written after it.
    before = Config.from_dict(description["config"]).resolve()
    trainer = _make_trainer(resume.changed(before, args.config, state.iteration))
    state = resume.on_devices(trainer, state)
    if jax.process_index() > 0:
        return trainer, None, state
    resume.rewind(Run(trainer, folder), state, description)
    return trainer, folder, state


def _check_may_change(args: TrainArgs, config: Config) -> None:
    known = args.config.names | config.names
    changed = [
        name
        for name in sorted((args.given & known) - set(MAY_CHANGE))
        if getattr(args.config, name, None) != getattr(config, name, None)
    ]
    if args.init_from is not None:
        changed.append("init_from")
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise ConfigError(f"--resume goes on with the run's own config; it takes no other {flags}")


def _lead(run: Run, state: RunState, logs: Sequence[str]) -> int:
    """Trains, keeps what is kept, and says what to do next; returns the last iteration."""
    config, folder = run.trainer.config, run.folder
    folder.add_provenance()
    with ExitStack() as opened:
        earlier = folder.read_metrics() if logs and state.iteration else []
        made = [
            opened.enter_context(loggers.LOGGERS[name](config, folder.path, earlier))
            for name in logs
        ]
        progress = opened.enter_context(Progress(config, folder.path, state.iteration))
        state = run.train(state, [folder.append_metrics, *made, progress.show])
    curve = run.draw_curve()
    if state.iteration < config.iterations:
        print(f"stopped after iteration {state.iteration} of {config.iterations}; to go on:")
        print(f"  python -m rl3jax.train --resume {run.quoted}")
    else:
        print(f"learning curve: {curve}\nto score it on held-out tasks, to watch it, to go on:")
        print(f"  python -m rl3jax.evaluate {run.quoted}\n  python -m rl3jax.render {run.quoted}")
        print(f"  python -m rl3jax.train --resume {run.quoted} --iterations {2 * state.iteration}")
    return state.iteration


if __name__ == "__main__":
    main()
