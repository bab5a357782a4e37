"""One decoded sample of each source, its trained part marked, so that a wrong mask is seen before an hour is spent."""

from typing import Any

from medtrain.tokens.shards import Sample, Samples
from medtrain.train.order import Ints

GREEN, RESET = "\033[32m", "\033[0m"


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
