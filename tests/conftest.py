"""Fixtures that every room's tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from medtrain.plugins import PACKAGE
from medtrain.storage import Store

PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rooms whose tests take longest come first, so that two processes end at about the same time."""
    longest = {"train": 0, "cluster": 1}
    items.sort(key=lambda item: longest.get(item.path.parent.name, 2))


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
    """One local Ray of two CPUs for the whole session; `medtrain.runtime.connect` finds it connected."""
    import ray

    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    variables = {"RAY_TRAIN_V2_ENABLED": "1", "TOKENIZERS_PARALLELISM": "false"}
    # "local": a cluster that another test or another person left behind is never joined.
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=int(100e6),
        include_dashboard=False,
        log_to_driver=True,
        runtime_env={"py_modules": [str(PACKAGE)], "env_vars": variables},
    )
    yield
    ray.shutdown()
