"""Runs a command and ends, when it ends, every process that came of it, while other clusters on the machine live on.

python cluster/contained.py COMMAND [ARGUMENT ...]

A Ray node is a tree of processes of which some move to sessions of their own (a job's driver) and some lose their
parent (`ray start` without --block leaves all of them). The kernel gives the orphans to the nearest ancestor that has
asked for them; this one asks, so that "descends from me" is exactly "came of what I started".
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO

import psutil

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own (Linux), and turn ending signals into SystemExit."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in ENDINGS:
        signal.signal(number, _leave)


def end_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies (Linux): a `kill -9` of the parent leaves nothing."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def start(command: Sequence[str], output: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
    """Start a command that ends with us, in a session of its own: a terminal's Ctrl-C does not reach it past us."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def end_all(grace_s: float = 2.0) -> None:
    """End every descendant: asked first, killed when `grace_s` has passed; later signals no longer interrupt."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    asked, deadline = set[psutil.Process](), time.monotonic() + grace_s
    while living := _living():
        late = time.monotonic() > deadline
        for process in living if late else living - asked:
            try:
                process.send_signal(signal.SIGKILL if late else signal.SIGTERM)
            except psutil.Error:
                continue
        asked |= living
        time.sleep(0.05)


def _living() -> set[psutil.Process]:
    """All descendants but those that have ended; of these the ones that are ours to bury are buried."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return set()
    living = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                living.add(process)
        except psutil.Error:
            continue
    return living


def main(command: Sequence[str]) -> int:
    """Run the command; returns its exit code, 128 + n after signal n."""
    if not command:
        sys.exit("usage: python cluster/contained.py COMMAND [ARGUMENT ...]")
    adopt_orphans()
    try:
        code = start(command).wait()
        return code if code >= 0 else 128 - code
    finally:
        end_all()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
