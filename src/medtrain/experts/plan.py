"""What experts there are to be, and what each is made of: the settings of its data, tokens and training run."""

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from medtrain.config import Config, knob, parse
from medtrain.data import stage
from medtrain.data.cleaning import CleanerConfig
from medtrain.data.pipeline import DataConfig
from medtrain.data.source import SourceConfig
from medtrain.errors import ConfigError
from medtrain.tokens.config import BaseConfig, TokensConfig
from medtrain.train.recipe import under
from medtrain.train.settings import TrainConfig

Category = Literal[
    "question answering", "text classification", "sequence labelling", "sequence to sequence", "knowledge graph"
]
"""The five of STAF-LLM's section 3."""

STAF: dict[str, Any] = {
    "epochs": 10,
    "model": {"precision": "nf4", "double_quantization": True},
    "adapter": {"kind": "adalora"},
    "batch": {"unit": "samples", "size": 32, "layout": "packed", "micro_tokens": 2048},
    "optimizer": {"learning_rate": 1e-3, "warmup_fraction": 0.05, "schedule": "linear", "clip": 1.0},
    "validation": {"keep": "last"},
}
"""Settings of an expert's run where the plan gives none. Ten epochs and the adapter's are the paper's, which is silent
on the rest; weights are the last ones, because only those have the rank that the budget asks for."""


class Specialty(Config):
    """One expert: what it is trained on."""

    category: Category
    """Which of the paper's five kinds of task."""
    sources: tuple[SerializeAsAny[SourceConfig], ...] = Field(min_length=1)
    """Its corpora, as in data.sources of prepare_data."""
    adaptation_rows: int = Field(default=0, ge=0)
    """Rows of D(adaptation) to draw by seed from train, where the corpus has no development split; 0 takes that."""
    non_commercial: bool = False
    """Whether the licence of a corpus forbids commercial use; the library says so of the adapter."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of this expert's run that differ from the plan's."""

    @field_validator("sources", mode="before")
    @classmethod
    def _sources(cls, items: Any) -> Any:
        known = isinstance(items, (list, tuple))
        return [stage.source_config(item) if isinstance(item, dict) else item for item in items] if known else items


class Plan(Config):
    """A library of experts over one frozen base."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The library's name, and the beginning of the names of all that is made for it."""
    root: str = knob("demo")
    """The folder of the sources' paths on every node; `demo` is made on the spot."""
    base: BaseConfig = BaseConfig()
    """The model that every expert sits on."""
    context_tokens: int = Field(1024, ge=32)
    """The longest sample, in tokens."""
    seed: int = 42
    """Draws rows, splits, wordings and adapters."""
    cleaners: tuple[SerializeAsAny[CleanerConfig], ...] = ()
    """The rules that every expert's rows must pass."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of every expert's run, over the defaults of STAF-LLM."""
    experts: dict[str, Specialty] = Field(min_length=1)
    """The specialties by name."""

    @field_validator("cleaners", mode="before")
    @classmethod
    def _cleaners(cls, items: Any) -> Any:
        known = isinstance(items, (list, tuple))
        return [stage.cleaner_config(item) if isinstance(item, dict) else item for item in items] if known else items

    @model_validator(mode="after")
    def _runs_are_whole(self) -> "Plan":
        for name in self.experts:
            try:
                run_config(self, name)
            except ConfigError as error:
                raise ValueError(f"experts.{name}.train: {error}") from None
        return self


def artifact_name(plan: Plan, expert: str) -> str:
    """What an expert's data, tokens and adapter are called."""
    return f"{plan.name}-{expert}"


def data_config(plan: Plan, expert: str) -> DataConfig:
    """The records of an expert: its validation split is D(adaptation), its test split D(test)."""
    specialty = plan.experts[expert]
    return DataConfig.model_validate(
        {
            "name": artifact_name(plan, expert),
            "root": plan.root,
            "sources": specialty.sources,
            "cleaners": plan.cleaners,
            "holdout": {"rows": specialty.adaptation_rows, "seed": plan.seed},
            "seed": plan.seed,
        }
    )


def tokens_config(plan: Plan, expert: str) -> TokensConfig:
    """The token shards of an expert."""
    name = artifact_name(plan, expert)
    return TokensConfig(name=name, data=name, base=plan.base, context_tokens=plan.context_tokens, seed=plan.seed)


def run_config(plan: Plan, expert: str) -> TrainConfig:
    """The training run of an expert: its own settings, else the plan's, else STAF-LLM's.

    Raises:
        ConfigError: a setting is wrong.
    """
    name = artifact_name(plan, expert)
    settings = under(plan.experts[expert].train, under(plan.train, STAF))
    return parse(TrainConfig, {"seed": plan.seed, **settings, "name": name, "tokens": name})
