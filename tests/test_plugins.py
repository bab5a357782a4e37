"""medtrain.plugins: the name is the file's; the package first, then the user's folder; only that file is imported."""

import pickle
from pathlib import Path

import pytest

from medtrain import plugins
from medtrain.errors import ConfigError


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own" / "house_test" / "things"
    folder.mkdir(parents=True)
    (folder / "first.py").write_text("VALUE = 1\ndef give():\n    return VALUE\n")
    (folder / "broken.py").write_text("raise RuntimeError('imported')\n")
    (folder / "_helper.py").write_text("")
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "own"))
    return tmp_path / "own"


def test_only_the_named_file_is_imported(own: Path) -> None:
    assert plugins.load("house_test", "things", "first").VALUE == 1
    assert list(plugins.files("house_test", "things")) == ["broken", "first"]
    assert plugins.load("house_test", "things", "first") is plugins.load("house_test", "things", "first")


def test_a_broken_plug_in_fails_each_time(own: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match="imported"):
            plugins.load("house_test", "things", "broken")


def test_an_unknown_name_lists_those_there_are(own: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'first'\? there are: broken, first"):
        plugins.load("house_test", "things", "frist")
    with pytest.raises(ConfigError, match="there are: none"):
        plugins.load("house_test", "nothing", "x")


def test_a_user_s_function_pickles_by_name(own: Path) -> None:
    """A worker finds it again in the shipped folder, under the same name."""
    give = plugins.load("house_test", "things", "first").give
    assert give.__module__ == "medtrain_plugins.house_test.things.first"
    assert pickle.loads(pickle.dumps(give))() == 1  # noqa: S301 (made in the line itself)


def test_another_root_forgets_the_first(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.load("house_test", "things", "first")
    other = tmp_path / "other" / "house_test" / "things"
    other.mkdir(parents=True)
    (other / "first.py").write_text("VALUE = 2\n")
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "other"))
    assert plugins.load("house_test", "things", "first").VALUE == 2


def test_the_package_s_own_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, kind, name = plugins.names(plugins.PACKAGE)[0].split("/")
    (tmp_path / room / kind).mkdir(parents=True)
    (tmp_path / room / kind / f"{name}.py").write_text("raise RuntimeError('the user's was taken')\n")
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path))
    assert plugins.source_of(room, kind, name).is_relative_to(plugins.PACKAGE)


def test_the_shipped_folder_wins_over_the_variable(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a worker the variable may be inherited from a node where it names another folder, or none."""
    shipped = tmp_path / "package" / plugins.NAMESPACE
    shipped.mkdir(parents=True)
    monkeypatch.setenv(plugins.VARIABLE, "/nowhere")
    monkeypatch.setenv(plugins.SHIPPED_VARIABLE, "1")
    monkeypatch.syspath_prepend(str(shipped.parent))
    assert plugins.own_root() == shipped


def test_a_variable_that_names_no_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, "/nowhere/at/all")
    with pytest.raises(ConfigError, match="MEDTRAIN_PLUGINS=/nowhere/at/all: no such folder"):
        plugins.own_root()


def test_names_are_paths_without_helpers(own: Path) -> None:
    assert plugins.names(own) == ["house_test/things/broken", "house_test/things/first"]
