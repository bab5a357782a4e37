"""The places that Ray holds for an elastic run, kept true: given back after a kill, looked at when nodes change.

Ray's coordinator of places holds a killed driver's for three minutes, so that the same run, submitted again, would wait
for itself; and it looks at the nodes every 20 seconds, so that a lost one is asked for workers in vain. Ray has no
public call for either: should its names change, the waits are back and nothing else.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from medtrain.storage import Store

FILE, COORDINATOR = "reservation", "AutoscalingCoordinator"
ANSWER_S, LOOK_S = 10.0, 1.0


def note(store: Store) -> None:
    """Write down, in a worker, the name under which Ray holds this run's places."""
    with contextlib.suppress(ImportError, AttributeError, RuntimeError):
        from ray.train.v2._internal.execution.context import get_train_context

        store.write(FILE, f"train-{get_train_context().train_run_context.run_id}".encode())


def withdraw(store: Store) -> None:
    """Give back the places that an earlier submission of this run had, in the driver."""
    if store.exists(FILE):
        _ask("cancel_request", requester_id=store.read(FILE).decode())
        store.delete(FILE)


@contextlib.contextmanager
def looked_at() -> Iterator[None]:
    """Let the coordinator look at the nodes as soon as one is lost or comes, in the driver."""
    ended = threading.Event()

    def watch() -> None:
        known = _alive()
        while not ended.wait(LOOK_S):
            now = _alive()
            if now != known:
                _ask("get_reserved_resources", requester_id="medtrain", recompute=True)
            known = now

    thread = threading.Thread(target=watch, name="nodes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _alive() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _ask(method: str, **arguments: Any) -> None:
    """Call the coordinator, if there is one that knows the call."""
    import ray
    from ray.exceptions import RayError

    with contextlib.suppress(ValueError, AttributeError, TypeError, RayError):
        coordinator = ray.get_actor(COORDINATOR, namespace=COORDINATOR)
        ray.get(getattr(coordinator, method).remote(**arguments), timeout=ANSWER_S)
