"""The config of a training run: token shards to one adapter, whatever the run is called."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from medtrain.config import Config, knob
from medtrain.errors import ConfigError
from medtrain.tracking import Service
from medtrain.train import adapters
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.model import ModelConfig
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig
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
    """Steps between checkpoints: one at each multiple of it, wherever the run was gone on with."""
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


class TrainConfig(Config):
    """One run: token shards to one adapter."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The artifact's name."""
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

    @field_validator("adapter")
    @classmethod
    def _whole_adapter(cls, adapter: dict[str, Any]) -> dict[str, Any]:
        try:
            return adapters.validate(adapter).model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_start(self) -> "TrainConfig":
        if self.merge_from and self.init_from:
            raise ValueError(
                "merge_from and init_from are both set; a stage starts from merged weights or goes on with an adapter"
            )
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> "TrainConfig":
        kind, stage = self.optimizer.kind, self.engine.zero_stage
        if kind != "adamw" and stage:
            raise ValueError(
                f"optimizer.kind={kind} with engine.zero_stage={stage}: shards of its blocks cannot be put together "
                "again; set engine.zero_stage: 0, or optimizer.kind: adamw"
            )
        refused = adapters.refusal(self.adapter, stage, self.validation.keep, self.validation.patience)
        if refused:
            raise ValueError(refused)
        return self
