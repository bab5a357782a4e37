"""A kind of trial of the tests' own, and studies of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtrain.config import parse
from medtrain.search.settings import StudyConfig
from medtrain.storage import Store

PLUGINS = Path(__file__).parent / "plugins"
SPACE = {"x": {"low": 0, "high": 1}, "y": {"low": 0, "high": 1}}

Configured = Callable[..., StudyConfig]


@pytest.fixture
def configured(store: Store, monkeypatch: pytest.MonkeyPatch) -> Configured:
    """Makes the config of a study of `quick` trials; keywords are sections of `study`."""
    monkeypatch.setenv("MEDTRAIN_PLUGINS", str(PLUGINS))
    monkeypatch.setenv("MEDTRAIN_TREE", "")  # a runner sets it for its process: here it ends with the test

    def make(runtime: dict[str, Any] | None = None, **study: Any) -> StudyConfig:
        given = {"name": "s", "trial": {"kind": "quick"}, "metric": "loss", "space": SPACE, **study}
        return parse(StudyConfig, {"storage": {"root": store.root}, "runtime": runtime or {}, "study": given})

    return make
