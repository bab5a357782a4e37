"""The command of both stages' jobs: config, plan, then the run."""

from collections.abc import Sequence
from pathlib import Path

from medtrain import artifacts, runtime
from medtrain.artifacts import Artifact
from medtrain.config import Config, knob
from medtrain.errors import ConfigError, MissingArtifact
from medtrain.job import parse, show
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store
from medtrain.tokens.shards import Samples
from medtrain.train import launch
from medtrain.train.stage import StageConfig, base_reference


class EstimateConfig(Config):
    """For which device `--dry-run` estimates."""

    device: str = knob("rtx3090")
    """rtx3090, rtx4090, a100, h100, h200 or cpu-core."""
    memory_gib: float | None = knob(24.0)
    """Memory of one device, GiB; null asks for no verdict."""


class Job(Config):
    """A stage on a cluster."""

    storage: StorageConfig = StorageConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    estimate: EstimateConfig = EstimateConfig()
    train: StageConfig


def main(script: Path, stage: int, argv: Sequence[str] | None = None) -> None:
    """Run one stage's job.

    Args:
        script: the job's file, beside whose `configs/` its YAMLs lie.
        stage: 1 or 2.
        argv: command line without the program's name; null takes the process's.

    Raises:
        MedtrainError: what the user can mend.
    """
    call = parse(Job, script, f"Train stage {stage}: token shards to an adapter.", argv)
    config = call.config
    if config.train.stage != stage:
        raise ConfigError(
            f"train.stage={config.train.stage}: {script.name} runs stage {stage}; use the other stage's job"
        )
    store = Store(config.storage.root)
    if call.dry_run:
        print(show(config))
        print(plan(store, config))
        return
    runtime.connect()
    runtime.check_cluster(store)
    print(_summary(launch.run(store, config.train.kind, config.train, config.runtime, call.policy)), flush=True)


def plan(store: Store, config: Job) -> str:
    """Rows, steps, memory and time of a run, as far as its inputs exist."""
    from medtrain.train import estimate, footprint, propose

    train = config.train
    try:
        tokens = artifacts.locate(store, "tokens", train.tokens)
        base = tokens.facts["base"] if train.merge_from else base_reference(store, train, tokens)
        path = artifacts.model_path(store, base)
    except MissingArtifact as missing:
        return f"plan: unknown until its input exists: {missing}"
    samples = Samples.open(tokens)
    lengths = samples.lengths[samples.select("train", train.categories)]
    asked, shape, workers = config.estimate, footprint.shape_of(path, train), config.runtime.workers
    found = estimate.estimate(shape, train, lengths, workers, asked.device, asked.memory_gib)
    if found.fits is not False or asked.memory_gib is None:
        return estimate.render(found)
    proposal = propose.fitting(shape, train, lengths, workers, asked.device, asked.memory_gib)
    return f"{estimate.render(found)}\n{propose.render(proposal)}"


def _summary(artifact: Artifact) -> str:
    facts = artifact.facts
    criterion = f"at step {facts['below_one_step']}" if facts.get("below_one_step") else "not reached"
    best = (
        f", best validation loss {facts['best_loss']:.4f} at step {facts['best_step']}" if "best_loss" in facts else ""
    )
    return (
        f"{artifact.kind}/{artifact.name}: {facts['step']} steps, loss {facts.get('first_loss', 0):.4f} -> "
        f"{facts.get('last_loss', 0):.4f}{best}; training loss below 1: {criterion}\n"
        f"adapter: {artifact.store.root}/adapter"
    )
