"""Searchers: one file each, named by `searcher.kind`.

A plug-in has `Config`, a `SearcherConfig`, and `Search`, a `medtrain.search.searcher.Searcher` made with it.
"""

from collections.abc import Mapping
from typing import Any

from medtrain import plugins
from medtrain.config import parse
from medtrain.search.searcher import Searcher, SearcherConfig
from medtrain.search.space import Space

DEFAULT = "cmaes"


def validate(searcher: Mapping[str, Any]) -> SearcherConfig:
    """The searcher's own config, by its `kind`.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    kind: type[SearcherConfig] = plugins.load("search", "searchers", str(searcher.get("kind", DEFAULT))).Config
    return parse(kind, dict(searcher))


def make(searcher: Mapping[str, Any], space: Space, base: Mapping[str, Any]) -> Searcher:
    """A configured searcher.

    Args:
        searcher: its settings, by `kind`.
        space: what varies.
        base: the config that suggestions override.

    Raises:
        ConfigError: there is no such kind, a setting is wrong, or the searcher cannot search this space.
    """
    module = plugins.load("search", "searchers", str(searcher.get("kind", DEFAULT)))
    made: Searcher = module.Search(validate(searcher), space, base)
    return made
