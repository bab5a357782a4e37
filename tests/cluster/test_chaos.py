"""A run on several nodes that is hurt ends as an undisturbed one: a seed draws the fault and the step it comes at.

The same batches in every step, the same losses, the same adapter: bit for bit where the number of workers did not
change, else within the movement bound of `tests/train/test_equality.py`. Each run has a cluster of its own.
"""

import hashlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import peft
import psutil
import pytest
import several
import torch
import yaml
from safetensors.torch import load_file

from medtrain import artifacts
from medtrain.artifacts import Policy
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train import adapters
from medtrain.train.engine import Engine
from medtrain.train.launch import run
from medtrain.train.model import load_base
from medtrain.train.optimizer import learning_rate
from medtrain.train.order import Plan
from medtrain.train.stage import StageConfig

PROJECT = Path(__file__).resolve().parents[2]
LOST_STEPS, BOUND, POISONED_ROW = 5, 1e-4, 17
NOTICE_STEPS = 4
"""From a worker's SIGTERM to the state that is saved: the step under way, which had asked already, and the next, which
carries the word. One more that was done and not yet in the log, and one until Python takes up the signal."""
GRACE_S = 30
"""How long a spot machine lives after its notice; Ray takes up to five seconds to tell the workers."""
AGAIN_S = 120
"""From a node's loss to the first step of the smaller group, on a busy machine too; Ray that is not told
`elastic.start_timeout_s` asks again and again, a minute each time, for the worker that is gone."""
CONFIG: dict[str, Any] = {
    "runtime": {
        "workers": 2,
        "collective_timeout_s": 30,
        "elastic": {"min_workers": 1, "grow_every_s": 3, "start_timeout_s": 5},
    },
    "train": {
        "stage": 1,
        "tokens": "tiny",
        "epochs": 11,
        "max_steps": 40,  # 4 a pass over the rows
        "model": {"compute_dtype": "float32"},
        "adapter": {"kind": "hurt", "rank": 16, "dropout": 0.1},
        "batch": {"size": 16, "micro_tokens": 64},
        "optimizer": {"learning_rate": 1e-3},
        "validation": {"every_steps": 10, "keep": "last"},
        "trouble": {"policy": "skip_batch", "rollbacks": 10},
        "checkpoint": {"every_steps": 10, "memory_every_steps": 3},
    },
}
HURT = '''"""LoRA on a base that takes its time and gives NaN when it reads certain tokens."""

import time
from pathlib import Path
from typing import Literal

import torch

from medtrain.train.adapters import lora


class Config(lora.Config):
    """LoRA's settings, and what is wrong."""

    kind: Literal["hurt"] = "hurt"
    """This plug-in's name."""
    poison: tuple[int, ...] = ()
    """Tokens that give NaN where they stand in a row in training."""
    hold: str = ""
    """A forward pass waits while this file exists."""


def attach(model, config, seed):
    """A LoRA adapter, and a hook on the embedding."""
    poison = torch.tensor(config.poison, dtype=torch.int64)

    def hurt(module, given, found):
        time.sleep(0.02)
        while config.hold and Path(config.hold).exists():
            time.sleep(0.02)
        windows = given[0].reshape(-1).unfold(0, len(poison), 1) if 0 < len(poison) <= given[0].numel() else None
        bad = windows is not None and bool((windows == poison).all(-1).any())
        return found * float("nan") if bad else found

    model.get_input_embeddings().register_forward_hook(hurt)
    return lora.attach(model, lora.Config(**config.model_dump(exclude={"kind", "poison", "hold"})), seed)
'''


@dataclass
class Run:
    """One stage on a cluster, and what may be done to it."""

    cluster: several.Cluster
    root: Path
    name: str
    adapter: dict[str, Any] = field(default_factory=dict)
    max_failures: int = 5
    driver: "subprocess.Popen[bytes] | None" = None
    told: int = 0
    """The last step in its log when a worker had been told to leave."""
    held: int = 0
    """The step after which it stood still while it was to grow."""

    @property
    def folder(self) -> Path:
        """Where the stage is."""
        return self.root / "stage1" / self.name

    @property
    def log(self) -> str:
        """All that its drivers have printed."""
        return (self.root / f"{self.name}.log").read_text()

    def submit(self) -> None:
        """Start a driver."""
        train = {**CONFIG["train"], "name": self.name, "adapter": {**CONFIG["train"]["adapter"], **self.adapter}}
        config = self.root / f"{self.name}.yaml"
        told = {**CONFIG["runtime"], "max_failures": self.max_failures}
        config.write_text(yaml.safe_dump({**CONFIG, "runtime": told, "train": train}))
        command = [sys.executable, str(PROJECT / "jobs/stage1.py"), "--config", str(config)]
        own = {"MEDTRAIN_HOME": str(self.root), "MEDTRAIN_PLUGINS": str(self.root / "plugins"), "OMP_NUM_THREADS": "1"}
        with (self.root / f"{self.name}.log").open("ab") as log:
            environment = {**os.environ, **self.cluster.environment, **own, "PYTHONUNBUFFERED": "1"}
            self.driver = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """Kill the driver."""
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait()

    def lines(self) -> list[dict[str, Any]]:
        """The training steps that it has logged."""
        return _lines(self.folder)

    def wait_for(self, what: str, seen: Callable[[], Any]) -> Any:
        """What `seen` gives, once it gives something, while the driver lives."""
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            found = seen()
            if found:
                return found
            assert self.driver is not None and self.driver.poll() is None, f"ended before {what}: {self.log[-3000:]}"
            time.sleep(0.02)
        pytest.fail(f"{what} did not come: {self.log[-3000:]}")

    def wait_for_step(self, step: int) -> int:
        """The last step that it has logged, at least `step`."""
        return int(self.wait_for(f"step {step}", lambda: max((n for n in self._steps() if n >= step), default=0)))

    def last_step(self) -> int:
        """The last step that it has logged."""
        return max(self._steps(), default=0)

    def _steps(self) -> list[int]:
        return [line["step"] for line in self.lines()]

    def end(self) -> None:
        """Wait until the driver has ended well."""
        assert self.driver is not None
        assert self.driver.wait(400) == 0, self.log[-3000:]

    def workers(self) -> list[psutil.Process]:
        """The processes that train, those of the newest group last."""
        return self.cluster.processes("RayTrainWorker")

    def resumed(self) -> list[tuple[int, str]]:
        """Where it went on from: (step, tier)."""
        found = re.findall(r"resumed at step (\d+) from (\w+)", self.log)
        return list(dict.fromkeys((int(step), tier) for step, tier in found))

    def world_sizes(self) -> list[int]:
        """The sizes of its groups, in their order."""
        return [int(n) for n in re.findall(r"trained parameters, (\d+) worker\(s\)", self.log)]


def worker_killed(run: Run, draw: random.Random) -> None:
    """SIGKILL of one worker."""
    draw.choice(run.workers()).kill()


def worker_terminated(run: Run, draw: random.Random) -> None:
    """SIGTERM of one worker: the group makes the step under way and one more, saves that and leaves."""
    draw.choice(run.workers()).terminate()
    run.told = run.last_step()


def raylet_killed(run: Run, draw: random.Random) -> None:
    """SIGKILL of one node's raylet: the node is lost."""
    node = draw.choice(run.cluster.nodes)
    node.processes("raylet/raylet")[0].kill()
    run.cluster.nodes.remove(node)


def driver_killed(run: Run, draw: random.Random) -> None:
    """SIGKILL of the driver; submitted again."""
    run.kill()
    run.submit()


def node_out(run: Run, draw: random.Random) -> None:
    """A node's power fails."""
    run.cluster.lose(draw.choice(run.cluster.nodes))


def node_out_and_back(run: Run, draw: random.Random) -> None:
    """A node's power fails and another node comes while the run waits."""
    node_out(run, draw)
    run.wait_for("a group of one", lambda: run.world_sizes()[-1:] == [1])
    alone = time.time()
    run.wait_for("steps of one worker", lambda: sum(line["time"] > alone for line in run.lines()) >= 3)
    hold = Path(run.adapter["hold"])
    hold.touch()
    run.cluster.add()
    run.wait_for("a larger group", lambda: "Deciding to resize the worker group from 1 -> 2" in run.log)
    run.held = run.last_step()
    hold.unlink()


def checkpoints_half_written(run: Run, draw: random.Random) -> None:
    """The driver is killed, and beyond its last checkpoint lie one without marker and one cut short."""
    run.kill()
    folder = run.folder / "checkpoints"
    whole = max(path for path in folder.iterdir() if (path / "COMPLETE.json").exists())
    partial, cut = folder / "step-00000039-attempt-000090", folder / "step-00000038-attempt-000090"
    shutil.copytree(whole, partial)
    (partial / "COMPLETE.json").unlink()
    shutil.copytree(whole, cut)
    state = (cut / "state.safetensors").read_bytes()
    (cut / "state.safetensors").write_bytes(state[: len(state) // 2])
    run.submit()
    run.wait_for("a warning of each", lambda: "it is partial" in run.log and "it is damaged" in run.log)


def disk_full(run: Run, draw: random.Random) -> None:
    """The kernel refuses files as large as a checkpoint, until the run has said so."""
    workers = run.workers()
    for worker in workers:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    run.wait_for("a refused checkpoint", lambda: "File too large" in run.log)
    for worker in workers:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def worker_stopped(run: Run, draw: random.Random) -> None:
    """One worker stands still in the middle of a step: the other's collective waits until its time is over."""
    draw.choice(run.workers()).suspend()


def nan_batch(run: Run, draw: random.Random) -> None:
    """Nothing from outside: one sample gives NaN whenever it is read (see `adapter`)."""


FAULTS = (
    node_out,
    worker_killed,
    checkpoints_half_written,
    node_out_and_back,
    worker_terminated,
    raylet_killed,
    disk_full,
    nan_batch,
    driver_killed,
    worker_stopped,
)
SHRINKS = (node_out_and_back, raylet_killed, node_out)
FROM_MEMORY = (*SHRINKS, worker_killed, worker_stopped)
"""And what `runtime.max_failures` counts: no notice, no refused checkpoint, no batch left out."""
RUNS = ((1, 2, 0), (4, 6, 3), (8, 9, 10), (11, 12, 19), (14, 16, 18), (13,), (7, 5), (17, 15))
"""Which of the 20 seeds hurt a run, one after another: one that changes the number of workers last, NaN first.

Every kind that leaves the number as it is, but NaN, is in one of the two runs that are judged bit for bit to the end.
"""
SEEDS = [pytest.param(seeds, marks=pytest.mark.long if number else ()) for number, seeds in enumerate(RUNS)]


def drawn(seed: int) -> tuple[Callable[[Run, random.Random], None], int, random.Random]:
    """A seed's fault, its step, and the generator of the rest; ten seeds in a row have every kind once.

    The steps are those whose newest state is in memory: step 10's, 20's and 30's are durable.
    """
    draw = random.Random(seed)
    return FAULTS[seed % len(FAULTS)], draw.choice((14, 15, 16, 24, 25, 26)), draw


@pytest.fixture(scope="module")
def storage(made_once: Store) -> Path:
    """A storage root with a base, its tokens, and the adapter that hurts."""
    root = made_once.local()
    plugin = root / "plugins/train/adapters/hurt.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(HURT)
    return root


@pytest.fixture(scope="module")
def undisturbed(made_once: Store, ray_cluster: None) -> Path:
    """The run that nothing happens to: its folder."""
    train = {**CONFIG["train"], "name": "undisturbed", "adapter": {**CONFIG["train"]["adapter"], "kind": "lora"}}
    return run(made_once, "stage1", StageConfig.model_validate(train), RuntimeConfig(workers=2), Policy()).store.local()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: "-".join(map(str, seeds)))
def test_a_hurt_run_ends_as_an_undisturbed_one(
    seeds: tuple[int, ...], storage: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTRAIN_PLUGINS", str(storage / "plugins"))
    faults = [drawn(seed) for seed in seeds]
    poison = _poison(storage) if faults[0][0] is nan_batch else ()
    name = "seed" + "-".join(map(str, seeds))
    hurt = []
    with several.cluster(2) as cluster:
        failures = 5 if any(fault in FROM_MEMORY for fault, _, _ in faults) else 0
        run = Run(cluster, storage, name, {"poison": poison, "hold": str(storage / f"hold-{name}")}, failures)
        run.submit()
        for number, (fault, step, draw) in enumerate(faults):
            at = step if len(faults) == 1 else 10 * (number + 1) + step % 10
            hurt.append((fault, run.wait_for_step(at), time.time()))
            fault(run, draw)
        run.end()
    print(f"{[(fault.__name__, at) for fault, at, _ in hurt]}: groups of {run.world_sizes()}, resumed {run.resumed()}")
    calm, resumed = 40, iter(run.resumed())
    for fault, reached, began in hurt:
        step, tier = (40, "") if fault in (disk_full, nan_batch) else next(resumed)
        if fault in FROM_MEMORY:
            assert reached - step <= LOST_STEPS
            # A worker of a node that is lost may hear of it in time to save a step beyond what memory has.
            assert tier == "memory" or f"step {step} is saved" in run.log
        if fault is worker_terminated:
            assert f"SIGTERM: step {step} is saved" in run.log and reached <= step <= run.told + NOTICE_STEPS
        if fault in SHRINKS:
            calm = step
            assert min(line["time"] for line in run.lines() if line["step"] > step) - began <= AGAIN_S
        if fault is node_out_and_back:
            grown, _ = next(resumed)  # from memory, or from storage where it stood still at a step that is durable
            assert run.held - grown <= LOST_STEPS
    if hurt[-1][0] is node_out_and_back:
        assert run.world_sizes()[-3:] == [2, 1, 2]
    elif calm < 40:
        assert run.world_sizes()[-1] == 1 and set(run.world_sizes()[:-1]) == {2}
    else:
        assert set(run.world_sizes()) == {2}
    _same_without(run, poison) if poison else _same(run, undisturbed, calm)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("group_of_one")
def test_a_run_leaves_a_node_that_is_drained_before_it_goes(
    storage: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own word of a spot machine's end: the state is on storage long before, and no failure is counted."""
    monkeypatch.setenv("MEDTRAIN_PLUGINS", str(storage / "plugins"))
    hold = storage / "hold-drained"
    with several.cluster(2) as cluster:
        run = Run(cluster, storage, "drained", {"hold": str(hold)}, max_failures=0)
        run.submit()
        run.wait_for_step(14)
        hold.touch()  # the few steps that are left would be over before the word is there
        _drain(cluster, cluster.nodes[0])
        began = time.monotonic()
        run.wait_for("Ray's word", lambda: "received preemption signal" in run.log)
        hold.unlink()
        saved = run.wait_for("word", lambda: re.search(r"a node is about to go: step (\d+) is saved", run.log))
        assert time.monotonic() - began < GRACE_S
        time.sleep(max(0.0, began + GRACE_S - time.monotonic()))
        lost = time.time()
        cluster.lose(cluster.nodes[0])
        run.end()
    step = int(saved[1])
    print(f"groups of {run.world_sizes()}, resumed {run.resumed()}")
    assert run.world_sizes() == [2, 1] and run.resumed() == [(step, "checkpoints")]
    assert min(line["time"] for line in run.lines() if line["step"] > step) - lost <= AGAIN_S
    _same(run, undisturbed, step)


def _drain(cluster: several.Cluster, node: several.Node) -> None:
    """Tell Ray that a node will be gone after the time of grace."""
    raylet = " ".join(node.processes("raylet/raylet")[0].cmdline())
    number = re.search(r"--node_id=(\w+)", raylet)
    assert number is not None
    told = [f"--node-id={number[1]}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
    command = [Path(sys.executable).parent / "ray", "drain-node", f"--address={cluster.address}", *told]
    subprocess.run(
        [*command, f"--deadline-remaining-seconds={GRACE_S}"], check=True, env={**os.environ, **cluster.environment}
    )


def _same(run: Run, undisturbed: Path, calm: int) -> None:
    """Steps, batches, losses and adapter are those of the undisturbed run, to the last bit for the `calm` first steps.

    In these the number of workers was the same.
    """
    mine, theirs = run.lines(), _lines(undisturbed)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs] == list(range(1, 41))
    assert [line["samples"] for line in mine] == [line["samples"] for line in theirs]
    assert [line["loss"] for line in mine[:calm]] == [line["loss"] for line in theirs[:calm]]
    found, wanted = _adapter(run.folder), _adapter(undisturbed)
    if calm == 40:
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    else:
        np.testing.assert_allclose([x["loss"] for x in mine], [x["loss"] for x in theirs], rtol=1e-5)
        assert _movement(_plain(run.root, frozenset(), 0).start, wanted, found) <= BOUND


def _same_without(run: Run, poison: tuple[int, ...]) -> None:
    """Batches, losses and adapter are those of engine steps on one worker, with every poisoned batch left out."""
    samples = Samples.open(artifacts.locate(Store(str(run.root)), "tokens", "tiny"))
    result = json.loads((run.folder / "result.json").read_text())
    mine = {line["step"]: line for line in run.lines()}  # the last of each: some are trained again after trouble
    poisoned_steps = set(range(40)) - {step - 1 for step in mine}
    assert len(poisoned_steps) == 10 and samples.ids[POISONED_ROW] in result["skipped_ids"]
    plain = _plain(run.root, frozenset(poisoned_steps), 40)
    assert {step: mine[step]["samples"] for step in mine} == plain.samples
    np.testing.assert_allclose([mine[step]["loss"] for step in plain.losses], list(plain.losses.values()), rtol=1e-5)
    assert _movement(plain.start, plain.end, _adapter(run.folder)) <= BOUND


def _poison(root: Path) -> tuple[int, ...]:
    """A sample's tokens: what no other sample has."""
    samples = Samples.open(artifacts.locate(Store(str(root)), "tokens", "tiny"))
    return tuple(int(token) for token in samples[POISONED_ROW].input_ids)


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The training steps that a run has logged."""
    path = folder / "log" / "metrics.jsonl"
    whole = path.read_text().splitlines() if path.exists() else []
    return [line for line in map(json.loads, (w for w in whole if w.endswith("}"))) if "loss" in line]


@dataclass(frozen=True)
class Plain:
    """What steps on one process give: the adapter before and after, and by step its loss and what its batch was."""

    start: dict[str, torch.Tensor]
    end: dict[str, torch.Tensor]
    losses: dict[int, float]
    samples: dict[int, str]


def _plain(root: Path, left_out: frozenset[int], steps: int) -> Plain:
    """`steps` steps of the plan on this process alone, without those left out."""
    config = StageConfig.model_validate({**CONFIG["train"], "name": "plain"})
    samples = Samples.open(artifacts.locate(Store(str(root)), "tokens", "tiny"))
    rows = samples.select("train")
    plan = Plan(rows, samples.lengths[rows], config.batch, seed=config.seed, epochs=config.epochs)
    base = load_base(str(root / "bases/tiny"), config.model, torch.device("cpu"), config.batch.layout)
    model = adapters.attach(base, config.adapter, config.seed)
    start = _weights(model)
    engine = Engine(model, samples, batch=config.batch, optimizer=config.optimizer, engine=config.engine, pad_id=3)
    losses, batches = {}, {}
    for step in sorted(set(range(steps)) - left_out):
        micros = plan.at(step)
        ids = "\n".join(samples.ids[row] for micro in micros for row in micro.rows)
        batches[step + 1] = hashlib.sha256(ids.encode()).hexdigest()[:16]
        rate = learning_rate(config.optimizer, step, config.max_steps or 0)
        losses[step + 1] = engine.step(micros, rate)["loss"]
    return Plain(start, _weights(model), losses, batches)


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in peft.get_peft_model_state_dict(model).items()}


def _movement(start: dict[str, Any], wanted: dict[str, Any], found: dict[str, Any]) -> float:
    """d = |w - w'| / |w - w0| over all tensors together."""
    apart = sum(float((wanted[name] - found[name]).square().sum()) for name in wanted)
    moved = sum(float((wanted[name] - start[name]).square().sum()) for name in wanted)
    print(f"movement {(apart / moved) ** 0.5:.2g}")
    return float((apart / moved) ** 0.5)
