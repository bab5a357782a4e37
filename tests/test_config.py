"""medtrain.config: strict, frozen, one YAML plus overrides; identity leaves knobs out."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrain import config
from medtrain.config import Config, knob
from medtrain.errors import ConfigError


class Inner(Config):
    """A section."""

    rate: float = 1e-3
    """Learning rate."""
    layers: tuple[str, ...] = ()
    """Names."""
    threads: int = knob(1, ge=1)
    """Loader threads."""


class Outer(Config):
    """A job."""

    name: str
    """The artifact's name."""
    mode: Literal["paper", "released"] = "paper"
    """Which recipe."""
    inner: Inner = Inner()
    """A section."""
    items: tuple[Inner, ...] = ()
    """Sections in a list."""
    maybe: Inner | None = None
    """A section that may be absent."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("name: a\ninner: {rate: 1e-4, threads: 2}\nitems: [{rate: 1}, {}]\n")
    return path


def test_precedence_is_defaults_yaml_overrides(file: Path) -> None:
    assert config.load(Outer, file).inner.rate == 1e-4
    loaded = config.load(Outer, file, ["inner.rate=2e-5", "items.1.threads=7", "maybe.rate=3"])
    assert (loaded.inner.rate, loaded.inner.threads, loaded.items[1].threads) == (2e-5, 2, 7)
    assert loaded.maybe is not None and loaded.maybe.rate == 3
    assert loaded.mode == "paper"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-2.5e+3", -2500.0), ("1.0", 1.0), (".5", 0.5), ("7", 7), ("-3", -3), ("0", 0),
        ("true", True), ("null", None), ("1e-4x", "1e-4x"), ("12:30", 750), ("v1", "v1"),
        ("[1, 2e-1]", [1, 0.2]), (".inf", float("inf")),
        ("1_000", 1000), ("0x1f", 31), ("e5", "e5"), ("2026-11-20x", "2026-11-20x"),
    ],
)  # fmt: skip
def test_values_are_read_as_yaml_1_2_reads_numbers(text: str, value: object) -> None:
    read = config.override({}, [f"a={text}"])["a"]
    assert read == value and type(read) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_the_command_line(value: float) -> None:
    assert config.override({}, [f"a={value!r}"])["a"] == value


@given(st.integers())
def test_every_integer_stays_an_integer(value: int) -> None:
    read = config.override({}, [f"a={value}"])["a"]
    assert read == value and type(read) is int


def test_override_leaves_its_input_alone() -> None:
    before = {"inner": {"rate": 1}, "items": [{"rate": 1}]}
    config.override(before, ["inner.rate=2", "items.0.rate=5"])
    assert before == {"inner": {"rate": 1}, "items": [{"rate": 1}]}


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("name", "no '='"),
        ("=x", "no '='"),
        ("items.9.rate=1", "'9' names no section or list item"),
        ("items.x.rate=1", "'x' names no section or list item"),
        ("items.9=1", "'9' names no section or list item"),
        ("name.x=1", "name is no section"),
        ("name.x.y=1", "'x' names no section"),
        ("inner.rate=[1", "not valid YAML"),
    ],
)
def test_a_bad_override_says_why(file: Path, assignment: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        config.load(Outer, file, [assignment])
    assert assignment in str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("nmae: b\n", r"nmae: unknown field; did you mean 'name'\?"),
        ("name: b\ninner: {rat: 1}\n", r"inner\.rat: unknown field; did you mean 'inner\.rate'\?"),
        ("name: b\nitems: [{}, {rat: 1}]\n", r"items\.1\.rat: unknown field; did you mean 'items\.1\.rate'\?"),
        ("inner: {}\n", "name: required and not given"),
        ("name: b\nmode: Paper\n", "mode='Paper': Input should be 'paper' or 'released'"),
        ("name: b\ninner: {threads: 0}\n", "inner.threads=0: Input should be greater than or equal to 1"),
        ("- a\n", "holds a list"),
        ("name: [\n", "not valid YAML"),
        ("name: b\nname: c\n", "'name' stands twice"),
        ("!!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_bad_file_says_why(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        config.load(Outer, path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(Outer, tmp_path / "absent.yaml")


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert config.load(Inner, tmp_path / "empty.yaml") == Inner()


def test_a_config_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().rate = 2  # type: ignore[misc]


def test_identity_has_every_field_but_the_knobs() -> None:
    base = Outer(name="a", items=(Inner(),))
    assert config.identity(base)["items"] == [{"rate": 1e-3, "layers": []}]
    assert config.identity(base) == config.identity(Outer(name="a", items=(Inner(threads=8),)))
    assert config.identity(base) != config.identity(Outer(name="a", items=(Inner(rate=2),)))


def test_a_fingerprint_is_of_content_not_of_order() -> None:
    assert config.fingerprint({"a": 1, "b": [2]}) == config.fingerprint({"b": [2], "a": 1})
    assert config.fingerprint({"a": 1}) != config.fingerprint({"a": 2})
    assert len(config.fingerprint({})) == 16


def test_a_dump_validates_again() -> None:
    """Configs cross Ray's borders as JSON values."""
    config_ = Outer(name="a", items=[Inner(layers=("q", "k"))], maybe=Inner(threads=3))
    assert config.parse(Outer, config_.model_dump(mode="json")) == config_


def test_fields_lists_every_leaf() -> None:
    paths = [path for path, _, _ in config.fields(Outer)]
    assert paths[:3] == ["name", "mode", "inner.rate"]
    assert {"items.0.rate", "maybe.threads"} <= set(paths)
