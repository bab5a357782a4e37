"""A system in memory: its model, tokenizer and templates, as one function from records to answers."""

from collections.abc import Callable, Sequence

import torch

from medtrain.errors import DataError
from medtrain.evaluate.cases import Answer, Reply, answer_of
from medtrain.evaluate.generate import generate, positions_of
from medtrain.evaluate.systems import GenerationConfig, System, run_of, tokens_of
from medtrain.records import Record
from medtrain.storage import Store
from medtrain.tokens.render import Renderer
from medtrain.train.model import load_system


def answerer(
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
