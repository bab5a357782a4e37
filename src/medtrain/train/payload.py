"""What a driver tells its workers, and the files by which they answer."""

import contextlib
import json

from pydantic import Field

from medtrain.config import Config
from medtrain.storage import Store
from medtrain.train.settings import TrainConfig

FAILURE, LEFT, RESULT = "failure.json", "left.json", "result.json"


class Payload(Config):
    """What the driver tells its workers; validated again on their side."""

    root: str
    """The storage root."""
    run: str
    """The run's folder under it, `<kind>/<name>`."""
    submission: str
    """A number of this submission: an error of an earlier one does not stop this."""
    train: TrainConfig
    base: str
    """The base's model reference."""
    base_path: str
    """What `from_pretrained` takes."""
    adapter_path: str | None
    """An adapter folder to go on from."""
    cpus: float = Field(gt=0)
    """Cores of this worker."""
    collective_timeout_s: int = Field(ge=1)
    """A collective that takes longer has hung."""


def answer(store: Store, path: str, submission: str, text: str) -> None:
    """Leave word for the driver, as far as storage takes it."""
    with contextlib.suppress(OSError):
        store.write(path, json.dumps({"submission": submission, "text": text}).encode())


def answered(store: Store, path: str, submission: str) -> str | None:
    """What the workers of a submission said; None where they did not, or the word was cut short with them."""
    try:
        told = json.loads(store.read(path)) if store.exists(path) else {}
    except ValueError:
        return None
    return told.get("text") if told.get("submission") == submission else None
