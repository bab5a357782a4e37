"""What a worker sets before it trains, and what it leaves for the driver, however it ends. Killed: `test_chaos.py`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.train
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from medtrain import reservation
from medtrain.artifacts import Build, Identity, Policy, begin, locate
from medtrain.errors import MissingArtifact, TrainingError
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, shard_path, write_shard
from medtrain.train import ending, inputs, worker
from medtrain.train.attempts import GivenUp
from medtrain.train.notice import Leaving, Notice
from medtrain.train.payload import FAILURE, LEFT, Payload, answer, answered

PROJECT = Path(__file__).resolve().parents[2]
GIB = 2**30
CPU = torch.device("cpu")


def payload(root: Store, name: str = "x", **train: Any) -> Payload:
    """What a driver tells the worker of a run on bases/tiny."""
    told = {
        "root": root.root,
        "run": f"stage1/{name}",
        "submission": "s",
        "base": "artifact:bases/tiny",
        "base_path": str(root.local("bases/tiny")),
        "adapter_path": None,
        "cpus": 1,
        "collective_timeout_s": 600,
    }
    settings = {
        "name": name,
        "tokens": "tiny",
        "adapter": {"kind": "lora", "rank": 4},
        "checkpoint": {"memory_every_steps": 0},
        **train,
    }
    return Payload.model_validate({**told, "train": settings})


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's own, as they are in a fresh process, and again at the end."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    cuda = torch.backends.cuda
    before, cuda.matmul.fp32_precision = cuda.matmul.fp32_precision, "ieee"
    yield
    torch.use_deterministic_algorithms(False)
    cuda.enable_mem_efficient_sdp(True)
    cuda.enable_cudnn_sdp(True)
    cuda.matmul.fp32_precision = before


class Built(Exception):
    """The moment at which a worker builds its engine."""


@pytest.mark.usefixtures("group_of_one", "switches")
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(
    ("model", "tf32"),
    [
        ({"precision": "nf4"}, True),
        ({"precision": "bf16"}, True),
        ({"precision": "nf4", "compute_dtype": "float32"}, False),
        ({"precision": "fp32"}, False),
    ],
    ids=["nf4", "bf16", "nf4 in float32", "fp32"],
)
def test_kernels_are_chosen_before_the_engine_is_built(
    made_once: Store, monkeypatch: pytest.MonkeyPatch, model: dict[str, str], tf32: bool, deterministic: bool
) -> None:
    """TF32 for a base that computes in bfloat16 alone: a float32 one is asked for by who wants all 23 bits."""
    seen: list[tuple[bool, bool]] = []

    def build(*given: Any) -> None:
        precision = torch.backends.cuda.matmul.fp32_precision
        seen.append((precision == "tf32", torch.are_deterministic_algorithms_enabled()))
        raise Built

    monkeypatch.setattr(worker, "_engine", build)
    job = payload(made_once, "kernels", model=model, engine={"deterministic": deterministic})
    with pytest.raises(Built):
        worker._open(job, made_once.sub(job.run), CPU)
    assert seen == [(tf32, deterministic)]


@pytest.mark.usefixtures("group_of_one")
def test_a_worker_asks_for_notices_and_notes_its_places(made_once: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes away the word of a group that left before it: the driver would start this one anew for ever."""
    monkeypatch.setattr(reservation, "note", lambda store: store.write(reservation.FILE, b"train-x"))
    job = payload(made_once, "opened", model={"precision": "fp32"})
    store = made_once.sub(job.run)
    answer(store, LEFT, job.submission, "SIGTERM: step 4 is saved")
    run, _ = worker._open(job, store, CPU)
    assert run.notice._announced is ray.train.get_preemption_info
    assert store.read(reservation.FILE) == b"train-x"
    assert not store.exists(LEFT)


@pytest.mark.usefixtures("group_of_one")
def test_a_worker_that_goes_on_says_what_it_has_and_what_comes_next(
    made_once: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reservation, "note", lambda store: None)
    job = payload(made_once, "resumed", model={"precision": "fp32"}, batch={"size": 16}, validation={"every_steps": 1})
    store = made_once.sub(job.run)
    run, _ = worker._open(job, store, CPU)
    (made,), run.notice = run.rooms, Notice(lambda: "soon")
    with pytest.raises(Leaving):
        worker.train(run)
    run.engine.release()
    (taken,) = run.rooms
    assert taken is not made and taken.keys() == made.keys()
    assert all(tensor is made[key] for key, tensor in taken.items()), "the first state took fresh memory"
    assert "resumed" not in capsys.readouterr().out.replace(job.run, "")
    again, tokenizer = worker._open(job, store, CPU)
    found = again.kept
    assert found is not None
    troubled = replace(found, progress=replace(found.progress, skipped=(1, 2)))
    worker._announce(again, inputs.read(locate(made_once, "tokens", "tiny"), job.train), tokenizer, troubled)
    again.engine.release()
    assert again.kept is not None and again.rooms[0] is again.kept.state
    following, best = run.name_of(run.plan.at(1)[0].rows[0]), run.progress.best_loss
    said = f"weights, first moments, second moments, best loss {best:.4f} of step 1"
    line = f"resumed at step 1 from checkpoints/step-00000001-attempt-000001 ({said}); next sample {following}"
    said_of = capsys.readouterr().out.splitlines()
    assert line in said_of
    assert said_of[-2].endswith(f"; next sample {run.name_of(run.plan.at(3)[0].rows[0])}"), (
        "of a batch that is left out"
    )


@pytest.mark.parametrize(("name", "peak"), [("NVIDIA H100 80GB HBM3", 989e12), ("Some GPU", None)])
def test_the_share_of_the_peak_is_of_all_devices_and_real_rows(
    made_once: Store, monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None
) -> None:
    """By weights counted over the model's modules, for rows of these lengths and trained parts; layers once."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(worker.runtime, "world_size", lambda: 3)
    job = payload(made_once, "share", engine={"gradient_checkpointing": "whole"})
    given = inputs.read(locate(made_once, "tokens", "tiny"), job.train)
    found = worker._flops(job, torch.device("cuda", 0), given)
    if peak is None:
        assert found is None
        return
    base = AutoModelForCausalLM.from_pretrained(job.base_path)
    frozen = sum(p.numel() for name, p in base.named_parameters() if p.ndim == 2 and "embed" not in name)
    adapter = sum(
        4 * sum(m.weight.shape) for n, m in base.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"
    )
    samples, config = given.samples, base.config
    head = config.vocab_size * config.hidden_size
    rows = [len(samples[row].input_ids) for row in given.rows]
    trained = sum(end - first for row in given.rows for first, end in samples[row].trained) / sum(rows)
    layers = frozen - ("lm_head.weight" in dict(base.named_parameters())) * head
    scores = 2 * config.num_hidden_layers * config.hidden_size * float(np.mean(rows)) / 2 * 2  # of keys and of values
    a_token = 2 * (2 * (layers + trained * head) + scores) + scores + 3 * 2 * adapter
    assert found == (pytest.approx(a_token), 3 * peak)


class Work:
    """A worker whose opening and training are replaced: `opening` and `training` are raised there."""

    def __init__(self, root: Store, monkeypatch: pytest.MonkeyPatch):
        self.job, self.opened, self.written = payload(root), 0, 0
        self.store = root.sub(self.job.run)
        self.device = CPU
        self.opening: Exception | None = None
        self.training: Exception | None = None
        self.tracker: object | None = None
        monkeypatch.setattr(worker, "_open", self._open)
        monkeypatch.setattr(worker, "train", self._train)
        monkeypatch.setattr(ending, "write", self._write)

    def _open(self, job: Payload, store: Store, device: torch.device) -> tuple[Any, Any]:
        self.opened += 1
        if self.opening is not None:
            raise self.opening
        module = SimpleNamespace(module=SimpleNamespace(model="model"))
        engine = SimpleNamespace(weights=lambda: {"a": "weight"}, deepspeed=module)
        return SimpleNamespace(engine=engine, tracker=self.tracker), "tokenizer"

    def _train(self, run: Any) -> None:
        if self.training is not None:
            raise self.training

    def _write(self, run: Any, model: Any, weights: Any, tokenizer: Any) -> None:
        assert (model, weights, tokenizer) == ("model", {"a": "weight"}, "tokenizer")
        self.written += 1

    def __call__(self) -> tuple[str | None, str | None]:
        """Work; what is left for the driver: the failure and the word of having left."""
        worker.work_on(self.device, self.job)
        return self.left

    @property
    def left(self) -> tuple[str | None, str | None]:
        """What the driver finds."""
        failure, left = (answered(self.store, path, self.job.submission) for path in (FAILURE, LEFT))
        return failure, left


@pytest.fixture
def work(store: Store, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A worker's work, as rank 0."""
    monkeypatch.setenv("RANK", "0")
    return Work(store, monkeypatch)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_exhausted_memory_is_answered_with_numbers_and_never_tried_again(
    work: Work, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    """Whichever rank's device is full: the next try would fill it too, after the whole base is loaded again."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (GIB // 2, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 23 * GIB)
    work.device = torch.device("cuda", 1)
    work.training = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 600.00 MiB.")
    with pytest.raises(torch.OutOfMemoryError):
        work()
    failure, left = work.left
    assert failure is not None and left is None
    numbers = "600.0 MiB refused; 23.0 GiB allocated at the peak, 0.5 of 24.0 GiB free"
    assert failure.startswith(f"out of memory on cuda:1 ({numbers}): ")
    assert f"lower batch.micro_tokens={work.job.train.batch.micro_tokens}" in failure
    work.training = None
    assert work() == (failure, None) and work.opened == 1


def test_another_submission_s_failure_stops_nothing(work: Work) -> None:
    answer(work.store, FAILURE, "an earlier one", "no token")
    assert work() == (None, None) and work.opened == 1


@pytest.mark.parametrize("where", ["opening", "training"])
def test_what_the_user_can_mend_is_left_for_the_driver(work: Work, where: str) -> None:
    kind, text = (MissingArtifact, "tokens/t does not exist") if where == "opening" else (TrainingError, "no token")
    setattr(work, where, kind(text))
    with pytest.raises(kind, match=text):
        work()
    assert work.left == (text, None)


def test_what_another_try_may_mend_is_not(work: Work) -> None:
    work.training = RuntimeError("a collective has hung")
    with pytest.raises(RuntimeError, match="a collective has hung"):
        work()
    assert work.left == (None, None)


@pytest.mark.parametrize(("rank", "left"), [("0", "SIGTERM: step 8 is saved"), ("1", None)])
def test_who_is_told_to_leave_ends_well(
    work: Work, monkeypatch: pytest.MonkeyPatch, rank: str, left: str | None
) -> None:
    """The driver starts the group again, which counts for no failure; one word of a group is enough."""
    monkeypatch.setenv("RANK", rank)
    work.training, work.tracker = Leaving("SIGTERM: step 8 is saved"), object()
    assert work() == (None, left) and work.written == 0


def test_who_is_given_up_ends_without_a_word(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    """The attempt that took over speaks for the run."""
    work.training, work.tracker = GivenUp("attempt 1 at this run was given up: end this job"), object()
    assert work() == (None, None) and work.written == 0
    assert "attempt 1 at this run was given up" in capsys.readouterr().out


@pytest.mark.parametrize("leader", [True, False])
def test_a_whole_run_s_adapter_is_written_by_the_leader(work: Work, leader: bool) -> None:
    work.tracker = object() if leader else None
    assert work() == (None, None) and work.written == leader


REPEATED = """
import os, sys
import torch
from safetensors.torch import save_file
from medtrain.storage import Store
from medtrain.train import worker
from medtrain.train.notice import Notice
from medtrain.train.payload import Payload
kind, out, *jobs = sys.argv[1:]
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
store = torch.distributed.TCPStore("127.0.0.1", 0, 1, is_master=True)
torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo", store=store, rank=0, world_size=1)
device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
for told in jobs:
    job = Payload.model_validate_json(told)
    run, _ = worker._open(job, Store(job.root).sub(job.run), device)
    run.notice = Notice()
    worker.train(run)
    weights = {name: tensor.cpu().contiguous() for name, tensor in run.engine.weights().items()}
    save_file(weights, f"{out}/{job.train.name}.safetensors")
    run.engine.release()
assert torch.are_deterministic_algorithms_enabled()
"""
"""A process that trains the runs it is told, as their one worker; it has its own switches and its own first kernel."""
LAYOUTS: dict[str, dict[str, Any]] = {
    "packed": {"layout": "packed", "micro_tokens": 1400},
    "padded": {"layout": "padded", "micro_samples": 2},
}


def long_rows(root: Store) -> None:
    """Make tokens/long: samples longer than one block of attention's kernels, whose sums may then have any order."""
    build = begin(root, "tokens", "long", Identity({}, {}, ""), Policy())
    assert isinstance(build, Build)
    draw, rows = np.random.default_rng(0), []
    for number in range(16):
        length = int(draw.integers(300, 701))
        ids = draw.integers(4, 260, length).astype(np.int32)
        spans = ((length // 2, length),)
        rows.append(Sample(f"notes:train{number}", "notes", "qa", "QA", "en", "train", ids, spans))
    write_shard(build.store, shard_path(0), rows)
    shutil.copytree(root.local("tokens/tiny/tokenizer"), build.store.local("tokenizer"))
    build.finish({"base": "artifact:bases/tiny", "context_tokens": 768})


def trained_twice(root: Store, out: Path, kind: str) -> Iterator[tuple[dict[str, torch.Tensor], ...]]:
    """The weights that two processes have after four steps of the same run, for each layout."""
    long_rows(root)
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    there.pop("CUBLAS_WORKSPACE_CONFIG", None)  # the key is to set it
    adapter = {"kind": "lora", "rank": 4, "dropout": 0.1}
    settings = {"tokens": "long", "max_steps": 4, "adapter": adapter, "engine": {"deterministic": True}}
    for turn in ("first", "second"):
        jobs = [
            payload(root, f"{turn}-{layout}", **settings, batch={"size": 4, **batch}).model_dump_json()
            for layout, batch in LAYOUTS.items()
        ]
        command = [sys.executable, "-c", REPEATED, kind, str(out), *jobs]
        done = subprocess.run(command, env=there, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    for layout in LAYOUTS:
        yield tuple(load_file(out / f"{turn}-{layout}.safetensors") for turn in ("first", "second"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_deterministic_run_is_the_same_again_bit_for_bit_on_cuda(made: Store, tmp_path: Path) -> None:
    for first, second in trained_twice(made, tmp_path, "cuda"):
        assert first.keys() == second.keys() and any(bool(t.any()) for name, t in first.items() if "lora_B" in name)
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
