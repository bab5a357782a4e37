"""Which state a run goes on from, and where its light ones go: rank 0 decides, so that all ranks agree; collective."""

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


def last_state(store: Store, submission: str, config: TrainConfig, attempt: Attempt | None) -> Checkpoint | None:
    """The newest state there is: in the memory of nodes if it is beyond the storage, else the last whole checkpoint.

    A best step that only memory has is written to storage first, by `attempt`, which rank 0 alone has.
    """
    leader = attempt is not None
    chosen, last = _in_memory(store, submission, config, attempt) if attempt is not None else (None, None)
    chosen = _from_leader(chosen)
    if chosen is not None:
        offer, holder = chosen
        found = opened(offer, memory.fetch(offer, holder))
        faults = [fault for fault in _from_all(found if isinstance(found, str) else None) if fault]
        if isinstance(found, Checkpoint) and not faults:
            return found
        if leader:
            print(f"memory tier: step {offer.step} is passed over: {faults[0]}; taking storage", flush=True)
    last = last or checkpoint.latest(store) if leader else None
    path = _from_leader(last.path if last is not None else None)
    if path is None or last is not None:
        return last
    read = checkpoint.read(store, path)
    if isinstance(read, str):
        raise OSError(f"checkpoint {path} is whole on rank 0, and rank {runtime.rank()} finds that {read}")
    return read


def memory_tier(submission: str, attempt: Attempt | None, config: CheckpointConfig) -> MemoryTier | None:
    """Rank 0's way to the holders of its node and of the next one; None on other ranks, and where there is none."""
    if not config.memory_every_steps:
        return None
    own = memory.this_node()
    nodes = _from_all(own)
    send = memory.sender(submission, nodes, own) if attempt is not None else None
    return MemoryTier(attempt.number, send) if attempt is not None and send is not None else None


def _in_memory(store: Store, submission: str, config: TrainConfig, attempt: Attempt) -> tuple[Any, Checkpoint | None]:
    """The (offer, holder) that beats the storage, if there is one; and the last checkpoint, where it was read.

    It is read where it seems to beat memory: one that is damaged does not.
    """
    if not config.checkpoint.memory_every_steps:
        return None, None
    offers = dict(memory.offers(submission))
    if config.validation.keep == "best":
        _save_best(store, offers, attempt)
    steps = checkpoint.whole_steps(store)
    best, last = usable(list(offers), steps, config.validation.keep == "best"), None
    if best is None and offers:
        last = checkpoint.latest(store)
        sound = {step for step in steps if last is not None and step <= last.progress.step}
        best = usable(list(offers), sound, config.validation.keep == "best")
    return None if best is None else (best, offers[best]), last


def _save_best(store: Store, offers: dict[Offer, Any], attempt: Attempt) -> None:
    """Write the newest best state in memory to storage, if that has it not: the run must end with its weights."""
    newest = max((offer for offer in offers if offer.is_best), default=None)
    if newest is None or newest.step <= checkpoint.last_whole_step(store):
        return
    found = opened(newest, memory.fetch(newest, offers[newest]))
    try:
        if isinstance(found, Checkpoint):
            checkpoint.write(store, attempt, found.progress, found.state)
    except OSError as error:
        print(f"memory tier: {store.root} refuses step {newest.step}, the best one: {error}", flush=True)
        checkpoint.discard(store, attempt, newest.step)


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
