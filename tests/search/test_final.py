"""Final rows: of no document that a fit, an expert or the choice of the winner has seen."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medtrain.artifacts import Build, Identity, Policy, begin, locate
from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.router import inputs
from medtrain.router.settings import FitConfig
from medtrain.search import final
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples, shard_path, write_shard


def task(root: Store, name: str, rows: Sequence[tuple[str, str, int]]) -> FitConfig:
    """Tokens and records of rows (split, document, trained tokens), and a fit of them."""
    samples = []
    for number, (split, _, trained) in enumerate(rows):
        ids = np.arange(4, 14, dtype=np.int32)
        spans = ((10 - trained, 10),) if trained else ()
        samples.append(Sample(f"{name}:{number}", name, "qa", "QA", "en", split, ids, spans))
    for kind in ("data", "tokens"):
        build = begin(root, kind, name, Identity({}, {}, ""), Policy())
        assert isinstance(build, Build)
        if kind == "tokens":
            write_shard(build.store, shard_path(0), samples)
        else:
            table = pa.table({"id": [s.id for s in samples], "document_id": [document for _, document, _ in rows]})
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            build.store.write("shards/00000.parquet", sink.getvalue().to_pybytes())
        build.finish({"base": "x", "data": name})
    settings = {"held_out": {"max_rows": 2, "seed": 1}, "passes": {"micro_tokens": 10}}
    return parse(FitConfig, {"name": name, "library": "l", "tokens": name, **settings})


def test_no_document_has_been_seen(store: Store) -> None:
    fits = {
        "one": task(
            store, "one", [("train", "a", 3), ("validation", "b", 3), *[("test", f"t{n}", 3) for n in range(9)]]
        ),
        # Rows of documents that the other one trains on, and several of one document.
        "two": task(store, "two", [("test", d, 3) for d in ("a", "b", "t0", "t1", "u", "u", "v", "v", "w", "w", "x")]),
    }
    found = final.rows(store, fits, 200)
    for name, config in fits.items():
        tokens = {s.id: s for s in found[name].samples}
        assert tokens and len(found[name].documents) == len(found[name].samples)
        assert not {"a", "b"} & set(found[name].documents) and config.held_out.max_rows == 2
    judged = set()
    for name in fits:
        known = final.documents(store, locate(store, "tokens", name))
        samples = Samples.open(locate(store, "tokens", name))
        drawn = {known[s.id] for s in inputs.draw(samples, "test", 2, 1)}
        assert len(drawn) >= 1
        judged |= drawn
    taken = set(found["one"].documents) | set(found["two"].documents)
    assert not judged & taken
    every = {f"t{n}" for n in range(9)} | {"u", "v", "w", "x"}
    assert taken == every - judged


def test_they_are_few_at_will_and_each_has_a_loss(store: Store) -> None:
    rows = [("train", "a", 3), *[("test", f"t{n}", n % 2) for n in range(30)]]
    one = {"one": task(store, "one", rows)}
    found = final.rows(store, one, 5)["one"]
    assert len(found.samples) == 5 and all(sample.trained_tokens for sample in found.samples)
    assert found.documents == final.rows(store, one, 5)["one"].documents
    assert len(final.rows(store, one, 200)["one"].samples) == 13


def test_what_leaves_none_is_refused(store: Store) -> None:
    none = {"one": task(store, "one", [("train", "a", 3), ("test", "t", 3), ("test", "u", 3)])}
    with pytest.raises(ConfigError, match=r"held_out.max_rows=2.*none is left to judge the winner on"):
        final.rows(store, none, 5)
    long = {"one": task(store, "long", [("train", "a", 3), *[("test", f"t{n}", 3) for n in range(5)]])}
    short = {
        "one": long["one"].model_copy(update={"passes": long["one"].passes.model_copy(update={"micro_tokens": 9})})
    }
    with pytest.raises(ConfigError, match="passes.micro_tokens=9: tokens/long has a row of 10 tokens"):
        final.rows(store, short, 5)
