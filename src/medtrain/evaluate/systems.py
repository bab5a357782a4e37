"""What is evaluated: a run's base with or without its adapter, opened with the templates that it was trained with."""

import re
from collections.abc import Callable, Sequence

import torch

from medtrain.artifacts import Artifact, locate
from medtrain.config import Config
from medtrain.errors import ConfigError, DataError
from medtrain.evaluate.cases import Answer, Reply, answer_of
from medtrain.evaluate.generate import GenerationConfig, generate, positions_of
from medtrain.records import Record
from medtrain.storage import Store
from medtrain.tokens.render import Renderer
from medtrain.train.model import load_system


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
    renderer = Renderer.open(tokens_of(root, run_of(root, system)))
    model, tokenizer = load_system(root, system.run, adapter=system.adapter, device=torch.device(device))
    reserve = max(0, renderer.config.context_tokens + config.max_new_tokens - positions_of(model))

    def answer(records: Sequence[Record]) -> list[Answer]:
        prompts = [prompt_of(renderer, record, reserve) for record in records]
        asked = [prompt for prompt in prompts if not isinstance(prompt, Reply)]
        replies = iter(generate(model, tokenizer, asked, config))
        return [
            answer_of(record, _reference(renderer, record), prompt if isinstance(prompt, Reply) else next(replies))
            for record, prompt in zip(records, prompts, strict=True)
        ]

    return answer


def prompt_of(renderer: Renderer, record: Record, reserve_tokens: int) -> list[int] | Reply:
    """A record's prompt, or the empty reply that says why there is none."""
    try:
        return renderer.prompt(record, reserve_tokens)
    except DataError as error:
        return Reply("", 0, False, refused=str(error))


def _reference(renderer: Renderer, record: Record) -> str:
    try:
        return renderer.reference(record)
    except DataError:  # no dialogue: its prompt was refused with the reason
        return ""
