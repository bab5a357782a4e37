"""A library of three random experts over the made base, and two tasks whose rows share documents."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medtrain.artifacts import Build, Identity, Policy, begin, locate
from medtrain.experts.folder import Adapter, Factors, write
from medtrain.search import trials
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples, shard_path, write_shard
from medtrain.train.model import ModelConfig, load_base

SPLITS = ["train"] * 10 + ["validation"] * 8 + ["test"] * 26


def begun(root: Store, kind: str, name: str) -> Build:
    """An artifact to fill, of no identity."""
    build = begin(root, kind, name, Identity({}, {}, name), Policy())
    assert isinstance(build, Build)
    return build


def task(root: Store, name: str, rows: Sequence[Sample], documents: Sequence[str]) -> None:
    """data/<name> and tokens/<name>."""
    data = begun(root, "data", name)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [row.id for row in rows], "document_id": list(documents)}), sink)
    data.store.write("shards/00000.parquet", sink.getvalue().to_pybytes())
    data.finish({})
    build = begun(root, "tokens", name)
    write_shard(build.store, shard_path(0), rows)
    for path in locate(root, "tokens", "tiny").store.files("tokenizer"):
        build.store.write(path, root.read(f"tokens/tiny/{path}"))
    build.finish({"base": "artifact:bases/tiny", "context_tokens": 64, "data": name})


def expert(model: Any, seed: int) -> Adapter:
    """A random adapter of rank 2 or more of the layers below the head."""
    draw, modules = torch.Generator().manual_seed(seed), {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            A = 0.2 * torch.randn(1 + seed, layer.in_features, generator=draw)
            modules[name] = Factors(A, 0.2 * torch.randn(layer.out_features, 1 + seed, generator=draw), 0.7)
    return Adapter("artifact:bases/tiny", modules)


@pytest.fixture(scope="module")
def root(made_once: Store) -> Store:
    """A storage root with library/three and the tasks three-one and three-two."""
    settings = ModelConfig.model_validate({"precision": "fp32"})
    model = load_base(str(made_once.local("bases/tiny")), settings, torch.device("cpu"), "packed")
    build, facts = begun(made_once, "library", "three"), {}
    for number, name in enumerate(("a", "b", "c"), 1):
        adapter = expert(model, number)
        write(build.store, name, adapter)
        ranks = {module: factors.rank for module, factors in adapter.modules.items()}
        facts[name] = {"category": "question answering", "ranks": ranks, "non_commercial": False}
    build.finish({"base": "artifact:bases/tiny", "experts": facts})
    samples = Samples.open(locate(made_once, "tokens", "tiny"))
    rows = [replace(samples[number], split=split) for number, split in enumerate(SPLITS)]
    task(made_once, "three-one", rows, [f"doc{number}" for number in range(len(rows))])
    # The test rows of this one are cut from half as many documents, which are the other task's.
    other = [replace(samples[number + 10], split=split) for number, split in enumerate(SPLITS)]
    task(made_once, "three-two", other, [f"doc{18 + (number - 18) // 2}" for number in range(len(rows))])
    return made_once


@pytest.fixture(scope="module")
def trial() -> Callable[..., Any]:
    """A trial's config, with settings of its own."""

    def make(**settings: Any) -> Any:
        fit = {
            "model": {"precision": "fp32"},
            "passes": {"micro_tokens": 128, "candidates_per_pass": 2},
            "held_out": {"max_rows": 6},
            "method": {"kind": "gradient", "size": 4, "epochs": 2, "learning_rate": 0.2, "save_every_steps": 1},
            "seed": 3,
        }
        content = {"kind": "fit", "library": "three", "tasks": {"one": {"own": "a"}, "two": {"tokens": "three-two"}}}
        return trials.validate({**content, "fit": fit, **settings})

    return make
