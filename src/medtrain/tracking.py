"""Step metrics to JSON lines and TensorBoard, and progress as lines that survive a job's log."""

import json
import math
import time
from pathlib import Path

from tqdm import tqdm


class Tracker:
    """Writes `metrics.jsonl` and TensorBoard events in one folder.

    A run that is gone on with from step `step` forgets what an earlier attempt logged beyond it.
    """

    def __init__(self, folder: Path, step: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        whole = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in whole if line.endswith("}") and json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._lines = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Write one line of numbers for a step; NaN and infinities, which JSON has not, are written as null."""
        numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._lines.write(json.dumps({"step": step, **numbers}) + "\n")
        self._lines.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both files."""
        self._lines.close()
        self._board.close()


class Progress:
    """A progress bar printed as whole lines at most every `every_s` seconds: bar, count, rate, ETA, and a note."""

    def __init__(self, title: str, total: int, *, done: int = 0, unit: str = "row", every_s: float = 5.0):
        self._title, self._total, self._unit, self._every_s = title, total, unit, every_s
        self._first = self.done = done
        self._began = self._printed = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count work done and print when it is time, or when all is done."""
        self.done += count
        now = time.monotonic()
        if now - self._printed >= self._every_s or self.done >= self._total:
            self._printed = now
            print(self._line(now - self._began, note), flush=True)

    def _line(self, elapsed_s: float, note: str) -> str:
        rate = (self.done - self._first) / elapsed_s if elapsed_s > 0 else None
        return tqdm.format_meter(
            self.done,
            self._total,
            elapsed_s,
            ncols=110,
            prefix=self._title,
            ascii=True,
            unit=self._unit,
            rate=rate,
            postfix=note,
        )
