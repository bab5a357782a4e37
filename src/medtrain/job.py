"""The command line that every job shares: `--config FILE section.field=value … --dry-run --again --keep-stale`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from pydantic_core import PydanticUndefined

from medtrain.artifacts import Policy
from medtrain.config import Config, fields, load
from medtrain.errors import MedtrainError

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Invocation(Generic[C]):
    """A job's config and what the command line says beside it; `extra` holds the job's own flags."""

    config: C
    policy: Policy
    dry_run: bool
    extra: dict[str, str | None]


def parse(
    kind: type[C],
    script: Path,
    title: str,
    argv: Sequence[str] | None = None,
    flags: dict[str, str] | None = None,
    configs: str | None = None,
) -> Invocation[C]:
    """Read a job's command line; with no arguments its config is `configs/<job>/demo.yaml` beside the script.

    Args:
        kind: the job's config.
        script: its file.
        title: what it does.
        argv: command line without the program's name; null takes the process's.
        flags: the job's own text options, name -> help.
        configs: where its YAMLs lie, seen from the script; null is `configs/<job>`.

    Raises:
        ConfigError: a setting is wrong.
        SystemExit: `--help` was asked for, or an unknown option given.
    """
    parser = argparse.ArgumentParser(
        prog=script.name,
        description=title,
        epilog=describe(kind),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    folder = script.resolve().parent / (f"configs/{script.stem}" if configs is None else configs)
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    parser.add_argument("--config", default="demo", help=f"a YAML file, or the name of one of the job's: {known}")
    parser.add_argument("overrides", nargs="*", metavar="section.field=value", help="settings that win over the YAML")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved config, plan and estimates, then stop"
    )
    parser.add_argument("--again", action="store_true", help="make the artifact again even if it is whole")
    parser.add_argument("--keep-stale", action="store_true", help="use artifacts that were made by other code")
    for name, text in (flags or {}).items():
        parser.add_argument(f"--{name}", help=text.replace("%", "%%"))
    args = parser.parse_intermixed_args(argv)
    named = folder / f"{args.config}.yaml"
    config = load(kind, named if named.is_file() else Path(args.config), args.overrides)
    extra = {name: getattr(args, name.replace("-", "_")) for name in flags or {}}
    return Invocation(config, Policy(args.keep_stale, args.again), args.dry_run, extra)


def run(main: Callable[[], None]) -> None:
    """Run a job's main; a user's error is printed without a traceback and ends the process with 2."""
    try:
        main()
    except MedtrainError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def describe(kind: type[Config]) -> str:
    """Every field of a config as `path = default: meaning`, for `--help`."""
    lines = ["settings (section.field=value):"]
    for path, field, _ in fields(kind):
        default = field.get_default(call_default_factory=True) if field.default_factory is None else "…"
        shown = "required" if default is PydanticUndefined else f"default {default!r}"
        lines.append(f"  {path}  [{shown}]\n      {field.description or ''}")
    return "\n".join(lines)


def show(config: Config) -> str:
    """A resolved config as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True, sort_keys=False)
