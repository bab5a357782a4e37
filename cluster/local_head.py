"""Runs one job on a local Ray head of its own: token authentication, free ports, a temporary folder, ended at the end.

python cluster/local_head.py jobs/stage2.py [arguments of the job]      (cluster/local.sh sets the environment first)
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import contained

PROJECT = Path(__file__).resolve().parents[1]
OBJECT_STORE_BYTES = 300_000_000
"""Blocks of Ray Data pass through it; Ray's own default is 30 % of the memory."""
MIN_CPUS, MAX_CPUS = 2, 8
"""The demo has two workers, on a single core too; above, Ray starts a Python process for each CPU, about 60 MB each."""
START_S = 120.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different, below those that the kernel gives to whoever asks for any."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("", port))
            found.add(port)
    return list(found)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder for Ray, deleted at the end; short, because a socket's path has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="medtrain-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def head_command(folder: Path, dashboard: int, cpus: int | None = None) -> list[str]:
    """`ray start` of a head that shares no port and no folder with another cluster of this machine.

    Args:
        folder: Ray's temporary folder.
        dashboard: the dashboard's port.
        cpus: CPUs that Ray counts, by default those that are here.
    """
    gcs, client, agent, metrics = free_ports(4)
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counted = max(MIN_CPUS, min(MAX_CPUS, here)) if cpus is None else cpus
    return [
        *("ray", "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"),
        *(f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
        *(f"--metrics-export-port={metrics}", "--min-worker-port=0", "--max-worker-port=0"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"),
        *(f"--num-cpus={counted}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
    ]


def wait_until_up(head: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Wait for the head's job server; it must refuse a request without the token.

    Raises:
        SystemExit: the head died, never answered, or answers everyone.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if head.poll() is not None:
            sys.exit(
                f"cluster/local.sh: the head ended with {head.returncode}:\n{log.read_text(errors='replace')[-3000:]}"
            )
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        except OSError:
            pass
        else:
            sys.exit("cluster/local.sh: the head answers without a token; source cluster/env.sh first")
        time.sleep(0.1)
    sys.exit(f"cluster/local.sh: no head after {START_S:.0f} s:\n{log.read_text(errors='replace')[-3000:]}")


def submit(address: str, job: Sequence[str]) -> int:
    """Run a job with its log on this terminal; returns the exit code of its driver (`ray job submit` knows only 1)."""
    name = f"medtrain-{uuid.uuid4().hex[:8]}"
    client = subprocess.Popen(["ray", "job", "submit", "--address", address, "--submission-id", name, "--", *job])
    try:
        code = client.wait()
    finally:
        client.kill()
    if code == 0:
        return 0
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address).get_job_info(name).driver_exit_code or code
    except (RuntimeError, ConnectionError):
        return code


def main(job: Sequence[str]) -> int:
    """Start, submit, end; returns the job's exit code, 128 + n after signal n."""
    if not job:
        sys.exit("usage: cluster/local.sh jobs/<job>.py [arguments]")
    contained.adopt_orphans()
    os.chdir(PROJECT)
    with short_folder() as folder:
        log, dashboard = folder / "head.log", free_ports(1)[0]
        address = f"http://127.0.0.1:{dashboard}"
        try:
            with log.open("wb") as output:
                head = contained.start(head_command(folder, dashboard), output)
            wait_until_up(head, address, log)
            return submit(address, job)
        finally:
            contained.end_all()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
