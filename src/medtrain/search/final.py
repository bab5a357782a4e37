"""Rows that decide whether a winner is better: no fit and no choice among trials has seen their documents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medtrain import artifacts
from medtrain.artifacts import Artifact
from medtrain.errors import ConfigError
from medtrain.router import inputs
from medtrain.router.settings import FitConfig
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples


@dataclass(frozen=True)
class Final:
    """A task's final rows, each with the document that it was cut from."""

    samples: list[Sample]
    documents: list[str]


def rows(root: Store, fits: Mapping[str, FitConfig], most: int) -> dict[str, Final]:
    """The final rows of each task: of its held-out split, what `held_out` leaves.

    Left out are rows of a document that is among the held-out rows of any task, or in another split of one.

    Args:
        root: the storage root.
        fits: the tasks' fits.
        most: how many of a task at most, drawn by `held_out.seed`.

    Raises:
        ConfigError: a task has none, or one that does not fit a micro-batch.
        MissingArtifact, CorruptArtifact: tokens or the records they were made of are not there.
    """
    opened = {task: artifacts.locate(root, "tokens", config.tokens) for task, config in fits.items()}
    samples = {task: Samples.open(tokens) for task, tokens in opened.items()}
    known = {task: documents(root, tokens) for task, tokens in opened.items()}
    seen: set[str] = set()
    for task, config in fits.items():
        judged, of = config.held_out, known[task]
        held = inputs.draw(samples[task], judged.split, judged.max_rows, judged.seed)
        seen |= {of[sample.id] for sample in held}
        pairs = zip(samples[task].ids, samples[task].splits, strict=True)
        seen |= {of[id] for id, split in pairs if split != judged.split}
    return {task: _final(config, samples[task], known[task], seen, most) for task, config in fits.items()}


def documents(root: Store, tokens: Artifact) -> dict[str, str]:
    """Id -> document of every record that tokens were made of."""
    data = artifacts.locate(root, "data", str(tokens.facts["data"]))
    found: dict[str, str] = {}
    for path in data.store.files("shards"):
        table = pq.read_table(pa.BufferReader(data.store.read(path)), columns=["id", "document_id"])
        found.update(zip(table["id"].to_pylist(), table["document_id"].to_pylist(), strict=True))
    return found


def _final(config: FitConfig, samples: Samples, known: Mapping[str, str], seen: set[str], most: int) -> Final:
    left = samples.select(config.held_out.split)
    fresh = [known[samples.ids[int(row)]] not in seen for row in left]
    left = left[np.array(fresh, dtype=bool) & (samples.trained_tokens[left] > 0)]
    if not len(left):
        raise ConfigError(
            f"held_out.split={config.held_out.split!r}, held_out.max_rows={config.held_out.max_rows}: trials are "
            f"compared on all such documents of tokens/{config.tokens}, and none is left to judge the winner on; lower "
            "held_out.max_rows"
        )
    chosen = [samples[int(row)] for row in inputs.drawn(left, most, config.held_out.seed)]
    if (longest := max(len(sample.input_ids) for sample in chosen)) > config.passes.micro_tokens:
        raise ConfigError(
            f"passes.micro_tokens={config.passes.micro_tokens}: tokens/{config.tokens} has a row of {longest} tokens; "
            "give at least that many"
        )
    return Final(chosen, [known[sample.id] for sample in chosen])
