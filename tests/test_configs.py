"""Every YAML in jobs/configs loads with its job's config, and every job has a demo."""

import contextlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from medtrain import config
from medtrain.config import Config
from medtrain.errors import MissingArtifact
from medtrain.search import trials
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Space, assignments, look_up
from medtrain.storage import Store

PROJECT = Path(__file__).resolve().parents[1]
JOBS = sorted((PROJECT / "jobs").glob("*.py"))
FILES = sorted((PROJECT / "jobs" / "configs").rglob("*.yaml"))
STUDIES = sorted((PROJECT / "tune").glob("*.yaml"))


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


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.stem)
def test_every_study_has_a_space_that_goes_with_its_base(file: Path, tmp_path: Path) -> None:
    study = config.load(StudyConfig, file).study
    root, space = Store(str(tmp_path)), Space(study.space)
    assert study.name == file.stem
    base = trials.base(study.trying, root)
    for name in space.parameters:
        assert look_up(base, name) is not None, f"{name} is nothing in the base config"
    for at in (0.0, 0.5, 1.0):
        overrides = assignments(space.values([at] * len(space.coordinates)))
        with contextlib.suppress(MissingArtifact):  # the overrides are read before the inputs are
            trials.identity(study.trying, root, overrides)


@pytest.mark.parametrize("file", [*FILES, *STUDIES], ids=lambda path: f"{path.parent.name}/{path.name}")
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
