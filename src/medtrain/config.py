"""Strict, frozen configuration: one YAML plus `section.field=value` overrides, and nothing else.

Precedence: defaults < YAML < overrides. A field marked with `knob` is not part of an artifact's identity.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from medtrain.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every config: unknown fields are refused, values never change after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def knob(default: Any = PydanticUndefined, **constraints: Any) -> Any:
    """A field that changes how something is computed and never what: left out of identity and fingerprints."""
    return Field(default, json_schema_extra={"identity": False}, **constraints)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that reads `1e-4` as a number, as YAML 1.2 does, and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
# Integers must win over the wider float pattern, so they are tried first.
for _first in "-+0123456789":
    _rules = _Loader.yaml_implicit_resolvers[_first]
    _Loader.yaml_implicit_resolvers[_first] = sorted(_rules, key=lambda rule: rule[0].endswith(":float"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in one YAML file.

    Raises:
        ConfigError: the file is absent, is no YAML, or holds something else than a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"config file {path}: no such file; give --config an existing YAML file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path}: not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path}: holds a {type(content).__name__}; a mapping of sections is needed")
    return content


def override(content: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of `content` with each `section.field=value` applied; values are read as YAML, list items by number.

    Raises:
        ConfigError: an assignment has no `=`, its value is no YAML, or its path runs through no mapping or list.
    """
    content = json.loads(json.dumps(content))
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator or not path:
            raise ConfigError(f"override {assignment!r}: has no '='; write section.field=value")
        *parents, last = path.split(".")
        place: Any = content
        for key in parents:
            place = place.setdefault(key, {}) if isinstance(place, dict) else _item(place, key, assignment)
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {assignment!r}: the value is not valid YAML: {error}; quote it") from None
        if isinstance(place, list):
            _item(place, last, assignment)
            place[int(last)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise ConfigError(f"override {assignment!r}: {'.'.join(parents)} is no section; check the path")
    return content


def _item(place: Any, key: str, assignment: str) -> Any:
    if isinstance(place, list) and key.isdigit() and int(key) < len(place):
        return place[int(key)]
    raise ConfigError(f"override {assignment!r}: {key!r} names no section or list item here; check the path")


def parse(kind: type[C], content: dict[str, Any]) -> C:
    """Validate `content` as a `kind`.

    Raises:
        ConfigError: lists every wrong field with its value, the reason and, for a typo, the nearest known name.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [_explain(kind, problem) for problem in error.errors()]
        raise ConfigError("\n".join([f"{kind.__name__}: {len(lines)} wrong setting(s)", *lines])) from None


def load(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Read `path`, apply `overrides` and validate as `kind`.

    Raises:
        ConfigError: see `read_yaml`, `override` and `parse`.
    """
    return parse(kind, override(read_yaml(path), overrides))


def _explain(kind: type[Config], problem: Any) -> str:
    location = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        names = sorted(name for name, _, _ in fields(kind))
        near = difflib.get_close_matches(location, names, 1) or difflib.get_close_matches(
            location.rpartition(".")[2], [name.rpartition(".")[2] for name in names], 1
        )
        hint = f"did you mean {_at(near[0], location)!r}?" if near else "--help lists the fields there are"
        return f"  {location}: unknown field; {hint}"
    if problem["type"] == "missing":
        return f"  {location}: required and not given; set it in the YAML or as {location}=VALUE"
    return f"  {location}={problem['input']!r}: {problem['msg']}"


def _at(known: str, location: str) -> str:
    """A field's path as `fields` names it, with the items' own numbers and names where the location has them."""
    parts, given = known.split("."), location.split(".")
    if len(parts) != len(given):
        return known
    return ".".join(own if part in ("0", "NAME") else part for part, own in zip(parts, given, strict=True))


def _is_knob(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("identity") is False


def identity(config: Config) -> dict[str, Any]:
    """The part of a config that decides what comes out, as JSON values: every field but the knobs, recursively."""

    def strip(value: Any) -> Any:
        if isinstance(value, Config):
            return {
                name: strip(getattr(value, name))
                for name, field in type(value).model_fields.items()
                if not _is_knob(field)
            }
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [strip(item) for item in value]
        return value

    plain: dict[str, Any] = json.loads(json.dumps(strip(config), default=str))
    return plain


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]


def fields(kind: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldInfo, type[Config]]]:
    """Every leaf field as (dotted path, field, owner), for `--help`: a list's first item's, a table's `NAME`'s."""
    for name, field in kind.model_fields.items():
        nested = [
            t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type) and issubclass(t, Config)
        ]
        if nested:
            items: dict[Any, str] = {list: "0.", tuple: "0.", dict: "NAME."}
            item = items.get(get_origin(field.annotation), "")
            for inner in nested:
                yield from fields(inner, f"{prefix}{name}.{item}")
        else:
            yield f"{prefix}{name}", field, kind
