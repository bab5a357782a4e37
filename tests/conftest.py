"""Fixtures that every room's tests share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from medtrain.artifacts import Artifact, Build, Identity, Policy, begin
from medtrain.plugins import PACKAGE
from medtrain.runtime import WORKER_VARIABLES
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, shard_path, write_shard
from medtrain.train.engine import join_group

PROJECT = Path(__file__).resolve().parents[1]
VOCABULARY = 320
# Two processes test side by side on two cores: with two threads each they would wait for each other's.
torch.set_num_threads(1)
os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")  # on such a machine 30 s are not always enough
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # as cluster/env.sh has it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that two processes end at about the same time."""
    files = ("test_benchmarks.py", "test_chaos.py", "test_equality.py", "test_learning.py", "test_open12.py")
    folders = ("experts", "lanes", "train", "trials", "tuning")
    longest = {**dict.fromkeys(files, 0), **dict.fromkeys(folders, 1), "test_studies.py": 1, "cluster": 2}
    items.sort(key=lambda item: longest.get(item.path.name, longest.get(item.path.parent.name, 3)))


def pytest_collection_finish() -> None:
    """What the imports made lives as long as the process: no test's garbage collection looks through it again."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models: `$MEDTRAIN_SHARED`, else `shared` beside the project; skips where absent."""
    folder = Path(os.environ.get("MEDTRAIN_SHARED") or PROJECT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}; set MEDTRAIN_SHARED to a folder that has data/ in it")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A storage root of the test's own."""
    return Store(str(tmp_path / "storage"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray for the whole session; `medtrain.runtime.connect` finds it connected."""
    import ray

    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # "local": a cluster that another test or another person left behind is never joined.
    ray.init(
        address="local",
        num_cpus=4,  # counted, not real: a group of four is what some tests are about
        object_store_memory=int(100e6),
        include_dashboard=False,
        log_to_driver=True,
        runtime_env={"py_modules": [str(PACKAGE)], "env_vars": WORKER_VARIABLES},
    )
    yield
    ray.shutdown()


def tiny_model(seed: int = 0) -> Qwen2ForCausalLM:
    """A random float32 Qwen2 of two layers; every in_features is a multiple of 64."""
    torch.manual_seed(seed)
    shape = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(shape)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and ChatML tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|pad|>")


def made_samples(count: int, *, seed: int = 0, split: str = "train") -> list[Sample]:
    """Random samples of two sources, 10 to 40 tokens, the end of each trained."""
    draw = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        length = int(draw.integers(10, 41))
        first = int(draw.integers(2, length - 2))
        ids = draw.integers(4, 260, length).astype(np.int32)
        source = ("notes", "questions")[number % 2]
        samples.append(Sample(f"{source}:{split}{number}", source, "qa", "QA", "en", split, ids, ((first, length),)))
    return samples


@pytest.fixture
def made(store: Store) -> Store:
    """A storage root with bases/tiny and tokens/tiny (64 rows to train on, 12 held out)."""
    return make(store)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same for a file whose tests share one."""
    return make(Store(str(tmp_path_factory.mktemp("storage"))))


def make(store: Store) -> Store:
    """Put the tiny base and its tokens into a storage root."""
    base = _build(store, "bases", "tiny")
    tiny_model().save_pretrained(base.store.local())
    byte_tokenizer().save_pretrained(base.store.local())
    base.finish({})
    tokens = _build(store, "tokens", "tiny")
    rows = [*made_samples(64), *made_samples(12, seed=1, split="validation")]
    write_shard(tokens.store, shard_path(0), rows)
    byte_tokenizer().save_pretrained(tokens.store.local("tokenizer"))
    tokens.finish({"base": "artifact:bases/tiny", "context_tokens": 64})
    return store


@pytest.fixture(scope="module")
def group_of_one() -> Iterator[None]:
    """A process group of one, as Ray Train would have made it."""
    given = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    before = {name: os.environ.get(name) for name in given}
    linear = torch.nn.functional.linear
    os.environ.update(given)
    joined = torch.distributed.is_initialized()
    if not joined:
        store = torch.distributed.TCPStore("127.0.0.1", 0, 1, is_master=True)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    join_group()
    yield
    torch.nn.functional.linear = linear  # ZeRO-3 replaces it for the whole process
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def _build(store: Store, kind: str, name: str) -> Build:
    build = begin(store, kind, name, Identity({}, {}, ""), Policy())
    assert not isinstance(build, Artifact)
    return build
