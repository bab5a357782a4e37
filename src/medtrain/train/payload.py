"""What a driver tells its workers, and the files by which they answer."""

from pydantic import Field

from medtrain.config import Config
from medtrain.train.settings import TrainConfig

FAILURE, RESULT = "failure.json", "result.json"


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
