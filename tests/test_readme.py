"""The README's commands, paths and links are true."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrain import config

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
COMMANDS = "\n".join(text for kind, text in BLOCKS if kind in ("sh", "bash"))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.M))


def test_the_first_screen_runs() -> None:
    """What a stranger sees first: what it is, and the commands that run it."""
    first = "\n".join(README.splitlines()[:30])
    for command in (
        "make demo",
        "make test",
        "source cluster/env.sh && ray start --head && ray job submit jobs/stage2.py",
    ):
        assert command in first


def test_every_make_target_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", COMMANDS + " ".join(re.findall(r"`([^`\n]+)`", README))))
    assert named and named <= targets()


def test_every_target_is_named() -> None:
    assert {f"make {target}" for target in targets()} <= set(re.findall(r"make [a-z-]+", README))


def test_every_job_is_named_and_exists() -> None:
    named = set(re.findall(r"\bjobs/(\w+\.py)", README))
    assert named == {path.name for path in (PROJECT / "jobs").glob("*.py")}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|jobs|cluster|tests|benchmarks)/[\w./-]+)`", README))))
def test_every_path_exists(path: str) -> None:
    assert (PROJECT / path).exists()


def file_map() -> list[str]:
    """The paths of the README's file map, whose block begins with `medtrain/`; two blanks of indent are one level."""
    block = next(text for _, text in BLOCKS if text.startswith("medtrain/\n"))
    paths, folders = [], list[str]()
    for line in block.splitlines()[1:]:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        entry = line.split()[0]
        folders = [*folders[:depth], entry.rstrip("/")]
        paths.append("/".join(folders))
    return paths


@pytest.mark.parametrize("path", file_map())
def test_the_file_map_is_true(path: str) -> None:
    assert (PROJECT / path).exists()


def test_every_room_is_on_the_map() -> None:
    rooms = {p.name for p in (PROJECT / "src" / "medtrain").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert {f"src/medtrain/{room}" for room in rooms} <= set(file_map())


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[\[><=~ ]", entry)[0] for entry in project["dependencies"]}
    reasons = dict(re.findall(r"^\| `([\w-]+)` \| (.+?) \|$", README, re.M))
    assert names <= set(reasons)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", README):
        assert (PROJECT / link).exists(), link


def test_options_of_a_job_stand_after_two_dashes() -> None:
    """`ray job submit jobs/x.py --dry-run` takes the option for its own and refuses it."""
    for line in COMMANDS.splitlines():
        if "ray job submit" in line and re.search(r"\.py.* --[a-z]", line.split("#")[0]):
            assert re.search(r" -- (jobs|tune)/", line), line


def test_flags_of_jobs_exist() -> None:
    """An option that the README gives to a job is one that `--help` of some job knows."""
    known = (PROJECT / "src/medtrain/job.py").read_text(encoding="utf-8")
    jobs = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "jobs").glob("*.py"))
    for line in re.findall(r"jobs/\w+\.py(.*)", COMMANDS):
        for flag in re.findall(r"--([a-z-]+)", line.split("#")[0]):
            assert f'"--{flag}"' in known or f'"{flag}"' in jobs or flag == "help", flag


def settings(line: str) -> Iterator[tuple[Path, list[str]]]:
    """The jobs of a command line, each with its arguments."""
    for part in line.split("&&"):
        words = shlex.split(part, comments=True)
        scripts = [number for number, word in enumerate(words) if re.fullmatch(r"(jobs|tune)/\w+\.py", word)]
        for number in scripts:
            yield PROJECT / words[number], words[number + 1 :]


def check(script: Path, given: str | dict[str, Any], overrides: list[str]) -> None:
    """A job takes a config, by name or as it stands, with overrides; and a chain's steps take theirs."""
    job = importlib.import_module(script.stem).Job
    folder = script.parent / (f"configs/{script.stem}" if script.parent.name == "jobs" else ".")
    content = config.read_yaml(folder / f"{given}.yaml") if isinstance(given, str) else given
    found = config.parse(job, config.override(content, overrides))
    for step in getattr(found, "steps", ()):
        check(script.with_name(f"{step.job}.py"), step.config, list(step.settings))


def test_jobs_take_the_settings_that_commands_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name and value, and the YAMLs that a reader is to write."""
    for folder in ("jobs", "tune"):
        monkeypatch.syspath_prepend(PROJECT / folder)
    (block,) = (text for kind, text in BLOCKS if kind == "yaml")
    parts = re.findall(r"^# (\w+\.yaml).*\n((?:[^#].*\n)*)", block, re.M)
    written = {name: yaml.safe_load(text) for name, text in parts}
    seen = 0
    for line in COMMANDS.replace("\\\n", " ").splitlines():
        for script, arguments in settings(line):
            name = arguments[arguments.index("--config") + 1] if "--config" in arguments else "demo"
            overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
            check(script, written[Path(name).name] if "/" in name else name, overrides)
            seen += bool(overrides)
    assert seen > 10 and len(written) == 4
