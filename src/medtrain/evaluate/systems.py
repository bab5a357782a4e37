"""What is evaluated and how it is asked: systems, their runs and token shards, and the settings of generation."""

import re
from collections.abc import Callable, Sequence

from pydantic import model_validator

from medtrain.artifacts import Artifact, locate
from medtrain.config import Config, knob
from medtrain.errors import ConfigError
from medtrain.evaluate.cases import Answer
from medtrain.records import Record
from medtrain.storage import Store


class GenerationConfig(Config):
    """How answers are generated; the base model's own generation settings are never used."""

    max_new_tokens: int = 256
    """An answer is cut after this many tokens and counted as a length hit."""
    temperature: float = 0.0
    """0 is greedy; above it tokens are drawn from softmax(logits / temperature)."""
    top_p: float = 1.0
    """Drawn from the most probable tokens that sum to this probability; 1 is all of them. Not used when greedy."""
    seed: int = 42
    """Seed of the draw; what is drawn depends on it and on the prompts of a batch. Not used when greedy."""
    batch_rows: int = knob(16, ge=1)
    """Prompts in one forward pass: memory against speed."""

    @model_validator(mode="after")
    def _in_range(self) -> "GenerationConfig":
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")
        if self.temperature < 0:
            raise ValueError("temperature must be 0 (greedy) or above")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be above 0 and at most 1")
        return self


class System(Config):
    """One system under test."""

    name: str
    """How tables and pictures call it; its answers lie in a folder of this name."""
    run: str
    """The training artifact, as kind/name: stage1/demo."""
    adapter: bool = True
    """False takes the base alone, as it was before the run."""

    @property
    def folder(self) -> str:
        """The name as a folder: letters, digits, dots and dashes."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-.") or "system"


def run_of(root: Store, system: System) -> Artifact:
    """The run that a system comes from.

    Raises:
        ConfigError: `run` is not kind/name.
        MissingArtifact: the run is not finished; the message names its job.
    """
    kind, separator, name = system.run.partition("/")
    if not separator or not kind or not name:
        raise ConfigError(f"run={system.run!r} of system {system.name!r}: is not kind/name; write it as stage1/demo")
    return locate(root, kind, name)


def tokens_of(root: Store, run: Artifact) -> Artifact:
    """The token shards that a run learnt from: prompts must look as theirs."""
    return locate(root, "tokens", str(run.facts["tokens"]))


def open_system(
    root: Store, config: GenerationConfig, system: System, device: str
) -> Callable[[Sequence[Record]], list[Answer]]:
    """Load a system on a device ("cpu", "cuda"); the function returned answers records in their order."""
    # Imported where models live only: a driver that plans and scores needs no model library.
    from medtrain.evaluate.answering import answerer

    return answerer(root, config, system, device)
