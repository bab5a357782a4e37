"""medtrain.tracking: lines that can be read back, and progress that neither floods nor stays silent."""

import json
import math
from pathlib import Path

import pytest

from medtrain.tracking import Progress, Tracker


def test_a_resumed_run_appends(tmp_path: Path) -> None:
    """Steps beyond the checkpoint that is gone on from were lost with the crash, and so are their lines."""
    for first in (0, 1):
        tracker = Tracker(tmp_path / "log", first)
        for step in (first + 1, first + 2):
            tracker.log({"loss": 1 / step + first}, step)
        tracker.close()
        with (tmp_path / "log" / "metrics.jsonl").open("a") as half:
            half.write('{"step": 9, "lo')
    lines = [json.loads(line) for line in (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert lines == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.5}, {"step": 3, "loss": 1 / 3 + 1}]
    assert list((tmp_path / "log" / "tensorboard").glob("events.*"))


def test_a_loss_that_is_no_number_is_still_json(tmp_path: Path) -> None:
    """Strict readers refuse NaN and Infinity as bare words."""
    tracker = Tracker(tmp_path)
    tracker.log({"loss": math.nan, "norm": math.inf}, 1)
    tracker.close()
    refuse = pytest.fail
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=lambda word: refuse(f"bare {word}"))
    assert line == {"step": 1, "loss": None, "norm": None}


def test_progress_prints_the_last_line_and_little_between(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("rows", 100, done=40, every_s=3600)
    for _ in range(60):
        progress.advance(note="loss 1.5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rows: 100%") and "100/100" in lines[0] and "loss 1.5" in lines[0]


def test_progress_prints_when_it_is_time(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("rows", 10, unit="tok", every_s=0.0)
    progress.advance(3)
    assert "3/10" in capsys.readouterr().out
