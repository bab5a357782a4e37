"""Which state a run goes on from, and where its light ones go: rank 0 decides, so that all ranks agree; collective."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch.distributed as dist

from medtrain import runtime
from medtrain.storage import Store
from medtrain.train import checkpoint
from medtrain.train.attempts import Attempt
from medtrain.train.checkpoint import Checkpoint
from medtrain.train.memory import launch as memory
from medtrain.train.memory.holder import Offer, usable
from medtrain.train.memory.tier import MemoryTier, opened
from medtrain.train.settings import CheckpointConfig, TrainConfig

Copy = tuple[Offer, Any]
"""A state in memory and a holder that has it."""


def last_state(store: Store, submission: str, config: TrainConfig, attempt: Attempt | None) -> Checkpoint | None:
    """The newest state there is: in the memory of nodes if it is beyond the storage, else the last whole checkpoint.

    What is not whole on every rank is passed over on all, for the next copy of it and then for older states. A best
    step that only memory has is written to storage first, by `attempt`, which rank 0 alone has.
    """
    latest = functools.cache(lambda: checkpoint.latest(store))
    choices = _in_memory(store, submission, config, attempt, latest) if attempt is not None else iter(())
    while (choice := _from_leader(next(choices, None))) is not None:
        offer, holder = choice
        found = opened(offer, memory.fetch(offer, holder))
        faults = [fault for fault in _from_all(found if isinstance(found, str) else None) if fault]
        if isinstance(found, Checkpoint) and not faults:
            return found
        if attempt is not None:
            print(f"memory tier: a copy of step {offer.step} is passed over: {faults[0]}", flush=True)
    last = latest() if attempt is not None else None
    path = _from_leader(last.path if last is not None else None)
    if path is None or last is not None:
        return last
    read = checkpoint.read(store, path)
    if isinstance(read, str):
        raise OSError(f"checkpoint {path} is whole on rank 0, and rank {runtime.rank()} finds that {read}")
    return read


def saved(store: Store, step: int) -> Checkpoint | None:
    """The checkpoint of a step, if an attempt's is whole; the last attempt's comes first."""
    for name in sorted(store.folders(checkpoint.FOLDER), reverse=True):
        if name.startswith(f"step-{step:08d}-"):
            found = checkpoint.read(store, f"{checkpoint.FOLDER}/{name}")
            if isinstance(found, Checkpoint):
                return found
    return None


def memory_tier(submission: str, attempt: Attempt | None, config: CheckpointConfig) -> MemoryTier | None:
    """Rank 0's way to the holders of its node and of the next one; None on other ranks, and where there is none."""
    if not config.memory_every_steps:
        return None
    own = memory.this_node()
    nodes = _from_all(own)
    send = memory.sender(submission, nodes, own) if attempt is not None else None
    return MemoryTier(attempt.number, send) if attempt is not None and send is not None else None


def _in_memory(
    store: Store, submission: str, config: TrainConfig, attempt: Attempt, latest: Callable[[], Checkpoint | None]
) -> Iterator[Copy]:
    """Rank 0's copies of states that beat the storage, newest first; `latest` reads the last whole checkpoint.

    That is read only where the storage seems to beat memory: a checkpoint that is damaged does not.
    """
    copies = memory.offers(submission) if config.checkpoint.memory_every_steps else []
    if not copies:
        return

    @functools.cache
    def durable(step: int) -> bool:
        return step == 0 or config.validation.keep != "best" or _made_durable(store, step, copies, attempt)

    # Whatever is gone on from may need it: the storage's last state too.
    durable(max((offer.step for offer, _ in copies if offer.is_best), default=0))
    claimed = checkpoint.last_whole_step(store)
    yield from usable(copies, claimed, durable)
    last = latest()
    rest = [copy for copy in copies if copy[0].step <= claimed]
    yield from usable(rest, last.progress.step if last is not None else 0, durable)


def _made_durable(store: Store, step: int, copies: list[Copy], attempt: Attempt) -> bool:
    """Whether storage has a best step whole, or has it now from memory: the run must be able to end with its weights.

    A marker is not enough: what lies beside it may be damaged, and only now memory can still mend it.
    """
    if saved(store, step) is not None:
        return True
    for offer, holder in copies:
        if offer.step != step or not offer.is_best:
            continue
        found = opened(offer, memory.fetch(offer, holder))
        if isinstance(found, str):
            print(f"memory tier: a copy of step {step}, the best one, is passed over: {found}", flush=True)
            continue
        try:
            checkpoint.write(store, attempt, found.progress, found.state)
            return True
        except OSError as error:
            print(f"memory tier: {store.root} refuses step {step}, the best one: {error}", flush=True)
            checkpoint.discard(store, attempt, step)
            return False
    return False


def _from_leader(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def _from_all(value: Any) -> list[Any]:
    """Every rank's value, on every rank."""
    values: list[Any] = [None] * runtime.world_size()
    dist.all_gather_object(values, value)
    return values
