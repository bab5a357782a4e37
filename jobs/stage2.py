#!/usr/bin/env python
"""Stage 2 of a fine-tune: token shards to an adapter."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain.job import run
from medtrain.train import command
from medtrain.train.command import Job

__all__ = ["Job", "main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, or go on training, and leave stage2/<name> under the storage root."""
    command.main(Path(__file__), 2, argv)


if __name__ == "__main__":
    run(main)
