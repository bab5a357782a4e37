"""The config of a fit: a library and a task's rows to weights and one fused adapter."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.router import methods
from medtrain.router.gate import RouterConfig
from medtrain.router.objective import PassConfig
from medtrain.train.model import ModelConfig


class HeldOutConfig(Config):
    """Rows that weights are judged on and never fitted to."""

    split: str = "test"
    """The split to take them from; a task without such rows is not judged."""
    max_rows: int | None = Field(default=200, ge=1)
    """At most so many, drawn by seed, the same for every fit of the task; null takes all."""
    seed: int = 42
    """Seed of the draw."""


class FitConfig(Config):
    """One task's router."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The artifact's name."""
    library: str
    """The library artifact whose experts are weighed."""
    experts: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Those of the library to weigh, in this order; null weighs all."""
    own: str | None = None
    """The library's expert for this very task, if it has one: `single` takes it, reports mark it."""
    tokens: str
    """The token artifact of the task."""
    split: str = "validation"
    """The rows of it to fit to: `validation` is D(adaptation) of an expert's tokens, few-shot draws from `train`."""
    shots: int | None = Field(default=None, ge=1)
    """How many rows to draw from these by seed (few-shot: 32); null takes all."""
    held_out: HeldOutConfig = HeldOutConfig()
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Draws rows, their order and candidates."""
    model: ModelConfig = ModelConfig()
    router: RouterConfig = RouterConfig()
    passes: PassConfig = PassConfig()
    method: dict[str, Any] = Field(default_factory=lambda: {"kind": "gradient"})
    """The method by kind; its settings are those of router/methods/<kind>.py."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of the fused adapter, by the best approximation; null concatenates, which is exact."""

    @field_validator("method")
    @classmethod
    def _whole_method(cls, method: dict[str, Any]) -> dict[str, Any]:
        try:
            return methods.validate(method).model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _parts_go_together(self) -> "FitConfig":
        if self.rank is not None and methods.merge_of(self.method) != "cat":
            raise ValueError(
                f"rank={self.rank} with method.kind={self.method['kind']}: its merge has the experts' own rank; "
                "leave rank out"
            )
        if self.model.base is not None:
            raise ValueError(f"model.base={self.model.base}: experts fit their own base alone; leave it out")
        if len(set(self.experts or ())) < len(self.experts or ()):
            raise ValueError(f"experts={self.experts}: one stands twice; name each once")
        if self.held_out.split == self.split:
            raise ValueError(
                f"held_out.split={self.split}: these are the rows that are fitted to; hold out another split"
            )
        return self

    @property
    def merge(self) -> dict[str, Any]:
        """How the experts are fused under the weights, as `experts/merges` takes it."""
        kind = methods.merge_of(self.method)
        return {"kind": kind} if self.rank is None else {"kind": "svd", "rank": self.rank}
