"""The memory tier's actors: a keeper beside the driver, and a holder on each node that is to have states."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medtrain.train.memory.holder import Files, Holder, Offer

ANSWER_S = 10.0
"""How long a holder may take to say what it has; a lost node does not answer at all."""
KEEPER_S = 60.0
"""The same for the keeper, which asks the holders one after another."""
MOVE_S = 60.0
"""How long a state may take to a holder or from it; one that stands still would hold up the run's end for ever."""


class Keeper:
    """Owns the holders, so that they live as long as the driver and not as long as a worker."""

    def __init__(self) -> None:
        self._holders: dict[str, Any] = {}

    def on(self, nodes: Sequence[str]) -> list[Any]:
        """The holders of these nodes, made where there is none."""
        for node in nodes:
            if node not in self._holders:
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                self._holders[node] = ray.remote(num_cpus=0)(Holder).options(scheduling_strategy=there).remote()
        return [self._holders[node] for node in nodes]

    def offers(self) -> list[tuple[Offer, Any]]:
        """What all holders have, each with its holder; those that do not answer are forgotten."""
        found: list[tuple[Offer, Any]] = []
        asked = {node: holder.offers.remote() for node, holder in self._holders.items()}
        for node, answer in asked.items():
            try:
                found += [(offer, self._holders[node]) for offer in ray.get(answer, timeout=ANSWER_S)]
            except RayError:
                del self._holders[node]
        return found


@contextlib.contextmanager
def kept(name: str) -> Iterator[None]:
    """A keeper of this name beside the driver, ended with its holders at the end."""
    here = NodeAffinitySchedulingStrategy(this_node(), soft=False)
    keeper = ray.remote(num_cpus=0)(Keeper).options(name=name, scheduling_strategy=here).remote()
    try:
        yield
    finally:
        ray.kill(keeper)


def this_node() -> str:
    """The id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def keeping(nodes: Sequence[str], own: str) -> list[str]:
    """The nodes whose holders are to have this node's states: itself and the next one in the ring, if there is one.

    Args:
        nodes: every worker's node; several workers may be on one.
        own: this node, one of them.
    """
    ring = sorted(set(nodes))
    return list(dict.fromkeys([own, ring[(ring.index(own) + 1) % len(ring)]]))


def sender(name: str, nodes: Sequence[str], own: str) -> Any:
    """A function that sends a state to this node's holder and to that of the next node in the ring.

    None if the keeper is gone. A holder that takes longer than `MOVE_S` is sent nothing more: each state that waits
    for it stays in the object store.
    """
    holders: list[Any] | None = _asked(name, "on", keeping(nodes, own))
    if holders is None:
        return None

    def send(offer: Offer, files: Files) -> None:
        content = ray.put(files)
        calls = {holder.put.remote(offer, content): holder for holder in holders}
        late = ray.wait(list(calls), num_returns=len(calls), timeout=MOVE_S)[1] if calls else []
        for call in late:
            holders.remove(calls.pop(call))
        ray.get(list(calls))
        if late:
            raise TimeoutError

    return send


def offers(name: str) -> list[tuple[Offer, Any]]:
    """What the run's holders have, each with its holder; nothing if the keeper is gone, and they with it."""
    return _asked(name, "offers") or []


def _asked(name: str, what: str, *given: Any) -> Any:
    """What the keeper answers; None if it is gone or stands still, which is said."""
    try:
        return ray.get(getattr(ray.get_actor(name), what).remote(*given), timeout=KEEPER_S)
    except (ValueError, RayError) as error:  # the first where its name is forgotten already
        print(f"memory tier: its keeper is gone ({type(error).__name__}); storage alone remains", flush=True)
        return None


def fetch(offer: Offer, holder: Any) -> Files | None:
    """A state from its holder; None if it or its node is gone."""
    try:
        found: Files | None = ray.get(holder.get.remote(offer), timeout=MOVE_S)
    except RayError:
        return None
    return found
