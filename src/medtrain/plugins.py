"""Plug-ins: a plug-in's name is its file name, found in the package first and then in `$MEDTRAIN_PLUGINS`.

`$MEDTRAIN_PLUGINS/<room>/<kind>/<name>.py` mirrors `medtrain/<room>/<kind>/<name>.py`. Only the named file is imported.
"""

import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from medtrain.errors import ConfigError

PACKAGE = Path(__file__).parent
VARIABLE = "MEDTRAIN_PLUGINS"
NAMESPACE = "medtrain_plugins"
"""The package that a user's plug-ins belong to; the driver ships them to workers in a folder of this name."""
SHIPPED_VARIABLE = "MEDTRAIN_SHIPPED_PLUGINS"
"""Set on workers: the plug-ins came with the job and lie in a folder `NAMESPACE` somewhere on `sys.path`."""


def own_root() -> Path | None:
    """The user's plug-in folder on this machine, or None.

    Raises:
        ConfigError: the variable names no folder.
    """
    if os.environ.get(SHIPPED_VARIABLE):
        for entry in sys.path:
            if (Path(entry) / NAMESPACE).is_dir():
                return Path(entry) / NAMESPACE
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    root = Path(given).expanduser().resolve()
    if not root.is_dir():
        raise ConfigError(f"{VARIABLE}={given}: no such folder; unset it or create <room>/<kind>/<name>.py in it")
    return root


def names(root: Path) -> list[str]:
    """Every plug-in under a root as `room/kind/name`, sorted."""
    found = (p.relative_to(root).with_suffix("") for p in root.glob("*/*/*.py") if not p.stem.startswith("_"))
    return sorted(path.as_posix() for path in found)


def files(room: str, kind: str) -> dict[str, Path]:
    """Every plug-in of a kind as name -> file; the package's own win over a user's of the same name."""
    found: dict[str, Path] = {}
    for root in (own_root(), PACKAGE):
        if root is not None:
            folder = root / room / kind
            found.update({p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")})
    return dict(sorted(found.items()))


def load(room: str, kind: str, name: str) -> ModuleType:
    """Import the one file that bears the plug-in's name.

    Raises:
        ConfigError: there is no such plug-in; the message lists those there are.
    """
    known = files(room, kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"{room}/{kind}: no plug-in {name!r}; {hint}there are: {', '.join(known) or 'none'}. "
            f"Add one as ${VARIABLE}/{room}/{kind}/{name}.py"
        )
    path = known[name]
    if path.is_relative_to(PACKAGE):
        return importlib.import_module(f"medtrain.{room}.{kind}.{name}")
    own = own_root()
    assert own is not None
    _open_namespace(own)
    return importlib.import_module(f"{NAMESPACE}.{room}.{kind}.{name}")


def _open_namespace(root: Path) -> None:
    """Let `import medtrain_plugins.<room>.<kind>.<name>` find files below `root`, and forget those of another root."""
    importlib.invalidate_caches()
    opened = sys.modules.get(NAMESPACE)
    if opened is not None and list(opened.__path__) == [str(root)]:
        return
    for name in [n for n in sys.modules if n == NAMESPACE or n.startswith(f"{NAMESPACE}.")]:
        del sys.modules[name]
    namespace = ModuleType(NAMESPACE)
    namespace.__path__ = [str(root)]
    sys.modules[NAMESPACE] = namespace


def source_of(room: str, kind: str, name: str) -> Path:
    """The file of a plug-in, for the code part of an artifact's identity."""
    load(room, kind, name)
    return files(room, kind)[name]
