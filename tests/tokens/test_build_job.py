"""The job: its configs are valid, its plan runs without a cluster, and the base is chosen as the config says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.tokens.config import BaseConfig

JOBS = Path(__file__).resolve().parents[2] / "jobs"


@pytest.fixture(scope="module")
def job() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_tokens_job", JOBS / "build_tokens.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in (JOBS / "configs" / "build_tokens").glob("*.yaml")))
def test_dry_run_prints_config_and_plan(
    job: ModuleType, name: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    job.main(["--config", name, "--dry-run", f"storage.root={store.root}"])
    shown = capsys.readouterr().out
    assert "context_tokens:" in shown
    assert f"tokens/{name}-stage1 <- data/{name}" in shown and "prepare_data.py makes it" in shown


def test_the_base_is_chosen_as_the_config_says(job: ModuleType, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert job.base_is_demo(BaseConfig(path="demo"))
    assert job.base_is_demo(BaseConfig(path=absent, fallback="demo"))
    assert not job.base_is_demo(BaseConfig(path=str(tmp_path), fallback="demo"))
    assert not job.base_is_demo(BaseConfig(path="Qwen/Qwen2-0.5B", fallback="demo"))
    with pytest.raises(ConfigError, match=r"base\.path=.*absent.*base\.fallback=demo"):
        job.base_is_demo(BaseConfig(path=absent))
