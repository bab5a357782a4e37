"""What a run says as it begins: a sample of each source, its trained part marked, so that a wrong mask is seen before
an hour is spent; or, where it goes on, what it has from before."""

from typing import Any

from medtrain.tokens.shards import Sample, Samples
from medtrain.train.checkpoint import Checkpoint
from medtrain.train.order import Ints

GREEN, RESET = "\033[32m", "\033[0m"
TENSORS = {
    "weight": "weights",
    "exp_avg": "first moments",
    "state1": "first moments",
    "exp_avg_sq": "second moments",
    "state2": "second moments",
    **dict.fromkeys(("absmax1", "absmax2", "qmap1", "qmap2"), "scales and code books of 8-bit moments"),
    "allocator/importance": "AdaLoRA's importances",
    "allocator/uncertainty": "AdaLoRA's uncertainties",
    "allocator/pattern": "AdaLoRA's kept triplets",
    "allocator/frozen": "whether AdaLoRA's triplets are frozen",
}
"""What a state's tensors are, by the beginning of their names."""


def marked(sample: Sample, tokenizer: Any) -> str:
    """A sample's text with its trained spans in green."""
    parts, start = [], 0
    for first, end in sample.trained:
        parts.append(tokenizer.decode(sample.input_ids[start:first]))
        parts.append(f"{GREEN}{tokenizer.decode(sample.input_ids[first:end])}{RESET}")
        start = end
    parts.append(tokenizer.decode(sample.input_ids[start:]))
    return "".join(parts)


def one_of_each_source(samples: Samples, rows: Ints, tokenizer: Any) -> str:
    """The first sample of every source among the rows."""
    firsts: dict[str, int] = {}
    for row in rows:
        firsts.setdefault(samples.sources[row], int(row))
    return "\n".join(
        f"--- {source} (trained part in green)\n{marked(samples[r], tokenizer)}" for source, r in firsts.items()
    )


def restored(found: Checkpoint) -> str:
    """What a state gives a run that goes on from it, by what is in it; tensors of another kind by that kind's name."""
    now = found.progress
    kinds = {"/".join(key.split("/")[: 2 if key.startswith("allocator/") else 1]) for key in found.state}
    parts = [*dict.fromkeys(said for kind, said in TENSORS.items() if kind in kinds), *sorted(kinds - TENSORS.keys())]
    if now.best_step:
        parts.append(f"best loss {now.best_loss:.4f} of step {now.best_step}")
    if now.skipped:
        parts.append(f"left-out batches of step(s) {_counted(now.skipped)}")
    if now.stale:
        parts.append(f"{now.stale} validation(s) without a better one")
    if now.rollbacks:
        parts.append(f"{now.rollbacks} rollback(s)")
    if now.lowered:
        parts.append(f"the rate halved from step(s) {_counted(now.lowered)} on")
    return ", ".join(parts)


def _counted(steps: tuple[int, ...]) -> str:
    """Steps from 0 as a run counts them for people: from 1."""
    return ", ".join(str(step + 1) for step in steps)
