"""A training stage's config, and what its artifact is made from."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from medtrain import artifacts, plugins
from medtrain.artifacts import Artifact, Identity
from medtrain.config import Config, fingerprint, identity, knob
from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.tracking import Service
from medtrain.train import adapters
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.model import ModelConfig
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig
from medtrain.train.recipe import fill
from medtrain.train.trouble import TroubleConfig


class ValidationConfig(Config):
    """Losses on held-out rows while training."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between validations; null is a tenth of the run, as BioQwen's code has it."""
    max_rows: int = Field(default=500, ge=0)
    """Held-out rows to use, the first in artifact order of each source in turn; 0 turns validation off."""
    keep: Literal["best", "last"] = "best"
    """The adapter that the stage ends with: lowest validation loss, or the last step's."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many validations without a new best; 0 never stops early."""


class CheckpointConfig(Config):
    """What a killed run goes on from."""

    every_steps: int = knob(50, ge=1)
    """Steps between checkpoints."""
    keep: int = knob(2, ge=1)
    """How many of the newest are kept, beside the best."""
    memory_every_steps: int = knob(4, ge=0)
    """Steps between the light ones in the memory of two nodes, which a lost worker or node costs; 0 makes none."""


class LogConfig(Config):
    """What a run shows."""

    every_s: float = knob(5.0, gt=0)
    """Seconds between progress lines."""
    trackers: tuple[Service, ...] = knob(())
    """Beside JSON lines and TensorBoard: mlflow, wandb. They read their addresses and keys from the environment."""
    show_samples: bool = knob(True)
    """Print one decoded sample of each source at the start, trained part marked; off where logs must not hold texts."""


class StageConfig(Config):
    """One fine-tuning stage: token shards to one adapter."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The artifact's name."""
    stage: Literal[1, 2]
    """1: comprehension, 2: comprehension and generation."""
    recipe: str | None = None
    """A paper's settings as defaults: bioqwen."""
    mode: Literal["paper", "released"] = "paper"
    """Where paper and released code differ, which to follow."""
    tokens: str
    """The token artifact to train on."""
    categories: tuple[str, ...] | None = None
    """Train these categories only; null trains every row of the artifact."""
    merge_from: str | None = None
    """Start from this stage's merged weights with a fresh adapter, such as stage1/demo."""
    init_from: str | None = None
    """Go on training this stage's adapter, such as stage1/demo, or an adapter folder in PEFT's layout."""
    epochs: int = Field(default=3, ge=1)
    """How often each row is trained."""
    max_steps: int | None = Field(default=None, ge=1)
    """End after this many steps; null runs every epoch whole."""
    seed: int = 42
    """Seed of order, dropout and the fresh adapter."""
    model: ModelConfig = ModelConfig()
    adapter: dict[str, Any] = Field(default_factory=lambda: {"kind": "lora"})
    """The adapter by kind; its settings are those of train/adapters/<kind>.py."""
    batch: BatchConfig = BatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    engine: EngineConfig = EngineConfig()
    validation: ValidationConfig = ValidationConfig()
    trouble: TroubleConfig = TroubleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="before")
    @classmethod
    def _recipe_under_given(cls, given: Any) -> Any:
        return fill(given, given["stage"]) if isinstance(given, dict) and given.get("stage") in (1, 2) else given

    @field_validator("adapter")
    @classmethod
    def _whole_adapter(cls, adapter: dict[str, Any]) -> dict[str, Any]:
        try:
            return adapters.validate(adapter).model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_start(self) -> "StageConfig":
        if self.merge_from and self.init_from:
            raise ValueError(
                "merge_from and init_from are both set; a stage starts from merged weights or goes on with an adapter"
            )
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> "StageConfig":
        kind, stage = self.optimizer.kind, self.engine.zero_stage
        if kind != "adamw" and stage:
            raise ValueError(
                f"optimizer.kind={kind} with engine.zero_stage={stage}: shards of its blocks cannot be put together "
                "again; set engine.zero_stage: 0, or optimizer.kind: adamw"
            )
        refused = adapters.refusal(self.adapter, stage, self.validation.keep)
        if refused:
            raise ValueError(refused)
        return self


def base_reference(root: Store, config: StageConfig, tokens: Artifact) -> str:
    """The model reference that the stage's adapter sits on.

    Merged weights are an artifact named after the stage they come from; an adapter that is gone on with keeps its base.
    """
    if config.merge_from:
        return f"artifact:merged/{config.merge_from.replace('/', '-')}"
    if config.init_from and not config.init_from.startswith("/"):
        return str(_stage(root, config.init_from).facts["base"])
    return config.model.base or str(tokens.facts["base"])


def identity_of(root: Store, config: StageConfig, tokens: Artifact) -> Identity:
    """What the stage is made from: config, tokens, base or earlier stage, and the training code.

    Raises:
        MissingArtifact: an input does not exist; the message names the job that makes it.
    """
    inputs = {f"tokens/{tokens.name}": tokens.fingerprint}
    for start in (config.merge_from, config.init_from):
        if start and not start.startswith("/"):
            inputs[start] = _stage(root, start).fingerprint
    if not config.merge_from:
        inputs["base"] = _base_fingerprint(root, base_reference(root, config, tokens))
    kind = plugins.source_of("train", "adapters", config.adapter["kind"])
    code = artifacts.code_hash([*artifacts.room_code("train", "tokens/shards.py"), kind])
    return Identity(identity(config), inputs, code)


def _stage(root: Store, run: str) -> Artifact:
    kind, _, name = run.partition("/")
    if kind not in ("stage1", "stage2") or not name:
        raise ConfigError(f"stage {run!r}: write stage1/<name> or stage2/<name>")
    return artifacts.locate(root, kind, name)


def stage_adapter(root: Store, run: str) -> str:
    """The adapter folder of a finished stage, or the folder itself where a path is given."""
    return run if run.startswith("/") else str(_stage(root, run).store.local("adapter"))


def _base_fingerprint(root: Store, reference: str) -> str:
    """An artifact's fingerprint, else one of a local model's sizes, else of the hub id."""
    if reference.startswith("artifact:"):
        kind, _, name = reference.removeprefix("artifact:").partition("/")
        return artifacts.locate(root, kind, name).fingerprint

    folder = Path(artifacts.model_path(root, reference))
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    return fingerprint([reference.rsplit("/", 1)[-1], *([path.name, path.stat().st_size] for path in files)])
