"""Every YAML in jobs/configs loads with its job's config, and every job has a demo."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from medtrain import config
from medtrain.config import Config

PROJECT = Path(__file__).resolve().parents[1]
JOBS = sorted((PROJECT / "jobs").glob("*.py"))
FILES = sorted((PROJECT / "jobs" / "configs").rglob("*.yaml"))


def load_job(stem: str) -> ModuleType:
    """A job's module, imported as `ray job submit` never does: nothing may run."""
    spec = importlib.util.spec_from_file_location(f"job_{stem}", PROJECT / "jobs" / f"{stem}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_yaml_loads(file: Path) -> None:
    assert file.parent.parent == PROJECT / "jobs" / "configs", "belongs in jobs/configs/<job>/"
    loaded = config.load(load_job(file.parent.name).Job, file)
    assert config.parse(type(loaded), loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_yaml_says_what_it_is(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("#")


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_every_job_has_a_demo(job: Path) -> None:
    assert (PROJECT / "jobs" / "configs" / job.stem / "demo.yaml").is_file()


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_every_setting_says_what_it_means(job: Path) -> None:
    kind = load_job(job.stem).Job
    assert issubclass(kind, Config)
    assert [path for path, field, _ in config.fields(kind) if not field.description] == []


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_help_works(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load_job(job.stem).main(["--help"])
    assert left.value.code == 0
    assert "storage.root" in capsys.readouterr().out
