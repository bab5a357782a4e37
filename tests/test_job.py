"""medtrain.job: one command line for every job, and a user's error without a traceback."""

from pathlib import Path
from typing import Literal

import pytest

from medtrain import job
from medtrain.artifacts import Policy
from medtrain.config import Config
from medtrain.errors import ConfigError, DataError


class Section(Config):
    """A section."""

    rate: float = 0.5
    """The learning rate."""
    kind: Literal["a", "b"] = "a"
    """Which."""


class Job(Config):
    """A job."""

    name: str
    """The artifact's name."""
    section: Section = Section()
    """A section."""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    configs = tmp_path / "jobs" / "configs" / "work"
    configs.mkdir(parents=True)
    (configs / "demo.yaml").write_text("name: demo\n")
    (configs / "real.yaml").write_text("name: real\n")
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    return tmp_path / "jobs" / "work.py"


def test_no_arguments_is_the_demo(script: Path) -> None:
    call = job.parse(Job, script, "Works.", [])
    assert (call.config.name, call.policy, call.dry_run, call.extra) == ("demo", Policy(), False, {})


def test_a_config_by_name_or_by_file(script: Path, tmp_path: Path) -> None:
    assert job.parse(Job, script, "", ["--config", "real"]).config.name == "real"
    assert job.parse(Job, script, "", ["--config", str(tmp_path / "mine.yaml")]).config.name == "mine"
    with pytest.raises(ConfigError, match="no such file"):
        job.parse(Job, script, "", ["--config", "absent"])


def test_overrides_stand_anywhere(script: Path) -> None:
    call = job.parse(
        Job, script, "", ["section.rate=1e-4", "--dry-run", "name=x", "--again", "--keep-stale", "section.kind=b"]
    )
    assert (call.config.section.rate, call.config.section.kind, call.config.name) == (1e-4, "b", "x")
    assert call.dry_run and call.policy == Policy(keep_stale=True, again=True)


def test_a_job_has_flags_of_its_own(script: Path) -> None:
    call = job.parse(Job, script, "", ["--max-rows", "3"], {"max-rows": "how many", "prompt": "what to ask"})
    assert call.extra == {"max-rows": "3", "prompt": None}


def test_an_unknown_option_is_refused(script: Path) -> None:
    with pytest.raises(SystemExit):
        job.parse(Job, script, "", ["--dry"])


def test_help_lists_every_setting_with_its_meaning(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        job.parse(Job, script, "Works 100 %.", ["--help"], {"share": "how much, 0-100 %"})
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert "Works 100 %.\n" in text and "how much, 0-100 %\n" in text
    assert "section.rate  [default 0.5]\n      The learning rate." in text and "name  [required]" in text


def test_a_shown_config_loads_again(script: Path, tmp_path: Path) -> None:
    call = job.parse(Job, script, "", ["section.rate=1e-7"])
    (tmp_path / "shown.yaml").write_text(job.show(call.config))
    assert job.parse(Job, script, "", ["--config", str(tmp_path / "shown.yaml")]).config == call.config


def test_a_user_s_error_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise DataError("train.txt: is a Git LFS pointer; run git lfs pull")

    with pytest.raises(SystemExit) as left:
        job.run(main)
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: train.txt: is a Git LFS pointer; run git lfs pull\n"


def test_our_own_bug_keeps_its_traceback() -> None:
    def main() -> None:
        raise AssertionError("ours")

    with pytest.raises(AssertionError):
        job.run(main)
