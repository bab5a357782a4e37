"""The process and the cluster: connecting to Ray, shipping the code, seeds, devices, ranks."""

import contextlib
import gc
import importlib.metadata
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from pydantic import model_validator

import medtrain
from medtrain import plugins
from medtrain.config import Config, knob
from medtrain.errors import ConfigError
from medtrain.storage import Store

PACKAGES = ("ray", "torch", "transformers", "peft", "bitsandbytes", "deepspeed", "pyarrow")
WORKER_VARIABLES = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "TOKENIZERS_PARALLELISM": "false",
    # What libraries deprecate in each other is theirs to mend, and not for every worker to print.
    "PYTHONWARNINGS": "ignore::FutureWarning",
    # Nothing here is compiled by PyTorch; importing bitsandbytes alone would load its compiler, a second a worker.
    "TORCHDYNAMO_DISABLE": "1",
    # Large tensors on the host get large pages, where the system asks for them: a state's copy takes a quarter.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""The environment of every process that a job starts on the cluster."""


class ElasticConfig(Config):
    """Training on fewer workers when nodes are lost, and on more when they come back."""

    min_workers: int | None = knob(None, ge=1)
    """The fewest workers to go on with; null always waits for `runtime.workers`."""
    grow_every_s: float = knob(60.0, gt=0)
    """How often a run may start anew on more workers."""
    start_timeout_s: int = knob(15, ge=1)
    """How long to wait for workers that a lost node cannot give any more."""


class RuntimeConfig(Config):
    """How a job meets its cluster."""

    workers: int = knob(1, ge=1)
    """Training or generating processes, one device each."""
    cpus_per_worker: float = knob(1.0, gt=0)
    """CPU cores that each worker reserves; PyTorch's threads follow it."""
    gpus_per_worker: float = knob(1.0, gt=0, le=1)
    """Share of a GPU that each worker reserves; below 1, several runs sit on one."""
    use_gpu: bool | None = knob(None)
    """Whether workers get a GPU; null gives them one where the cluster has any."""
    max_failures: int = knob(3, ge=-1)
    """How often a lost worker or node is replaced before the job gives up; -1 is without end."""
    elastic: ElasticConfig = ElasticConfig()
    collective_timeout_s: int = knob(600, ge=1)
    """A collective that takes longer has hung: the group is started again."""

    @model_validator(mode="after")
    def _range(self) -> "RuntimeConfig":
        if (self.elastic.min_workers or 1) > self.workers:
            raise ValueError(f"elastic.min_workers={self.elastic.min_workers}: at most runtime.workers={self.workers}")
        return self


def connect() -> None:
    """Join the cluster that the environment names (`ray job submit` does), or start one here; ship code and plug-ins.

    Workers import the very tree that the driver runs: the package and the plug-ins travel with the job.
    """
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    variables, ship = dict(WORKER_VARIABLES), [str(plugins.PACKAGE)]
    own = plugins.own_root()
    with tempfile.TemporaryDirectory() as staging:
        if own is not None:
            # Under this name workers can import a plug-in that a pickled function refers to.
            staged = Path(staging) / plugins.NAMESPACE
            shutil.copytree(own, staged, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            ship.append(str(staged))
            variables[plugins.SHIPPED_VARIABLE] = "1"
        ray.init(runtime_env={"py_modules": ship, "env_vars": variables}, log_to_driver=True)


def report() -> dict[str, list[str]]:
    """What this process runs: versions of medtrain and the engine, the user's plug-ins and the package's own."""
    own = plugins.own_root()
    return {
        "medtrain": [medtrain.__version__],
        "plug-ins": [] if own is None else plugins.names(own),
        "package plug-ins": plugins.names(plugins.PACKAGE),
        **{name: [_version(name)] for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def check_cluster(store: Store) -> None:
    """See that every node runs what the driver runs and sees the same storage, and say what that is.

    Raises:
        ConfigError: a node has another version of a package, or does not see the storage root's files.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nonce, path = uuid.uuid4().hex, f"nonces/{uuid.uuid4().hex}"

    def look() -> tuple[dict[str, list[str]], str]:
        return report(), store.read(path).decode() if store.exists(path) else ""

    store.write(path, nonce.encode())
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(look)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        placed = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        answers = ray.get([task.options(scheduling_strategy=place).remote() for place in placed])
    finally:
        store.delete(path)
    mine = report()
    for node, (theirs, seen) in zip(nodes, answers, strict=True):
        where = node["NodeManagerAddress"]
        wrong = [
            f"{key} {' '.join(theirs[key]) or 'none'} (driver: {' '.join(mine[key]) or 'none'})"
            for key in mine
            if theirs[key] != mine[key]
        ]
        if wrong:
            raise ConfigError(f"node {where}: runs {', '.join(wrong)}; install constraints.txt on every node")
        if seen != nonce:
            raise ConfigError(f"storage.root={store.root}: node {where} does not see it; use a shared folder or a URI")
    seen_there = answers[0][0] if answers else mine
    print(
        f"workers: {len(nodes)} node(s) run medtrain {seen_there['medtrain'][0]}, "
        f"plug-ins: {', '.join(seen_there['plug-ins']) or 'none'}; "
        f"in the package: {', '.join(seen_there['package plug-ins']) or 'none'}",
        flush=True,
    )


def wants_gpu(config: RuntimeConfig) -> bool:
    """Whether workers get a GPU each: as the config says, else whether the cluster has any."""
    import ray

    return config.use_gpu if config.use_gpu is not None else ray.cluster_resources().get("GPU", 0) > 0


def lost() -> tuple[type[Exception], ...]:
    """What Ray raises where an actor's process is gone: it died, or Ray's memory monitor killed it."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    return RayActorError, OutOfMemoryError


def rank() -> int:
    """This worker's number, 0 outside a worker group."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many workers there are in this group."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import the model libraries inside, at the start of a process that will train.

    They make 600,000 objects that live as long as the process: looking through them again and again for what is no
    longer needed takes a tenth of the import, and later half a second of whatever step it falls into.
    """
    gc.disable()
    hidden = "mlflow" not in sys.modules
    if hidden:  # DeepSpeed's autotuner, which nobody calls, would load it where it is installed: another second
        sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["mlflow"]
        gc.freeze()
        gc.enable()


def be_deterministic() -> None:
    """Take kernels that give the same bits again, before the first one runs; what has none is named in a warning."""
    import torch

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Where it is told to warn only, attention's memory-efficient backward pass warns and sums in any order.
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def multiply_in_tf32() -> None:
    """Let float32 products on a GPU take 10 bits of a factor (TF32), which its tensor cores are made for.

    For a base that computes in bfloat16: its hidden states have 7 bits, and the adapter's products of them in full
    float32 would take as long as the base's own.
    """
    import torch

    torch.backends.cuda.matmul.fp32_precision = "tf32"


def set_threads(cpus: float) -> None:
    """Give PyTorch the cores that the worker has reserved (Ray alone gives it one)."""
    import torch

    torch.set_num_threads(max(1, int(cpus)))
