"""Ways to make one update of many: one file each, named by `merge.kind`.

A plug-in has `Config` and `merge(parts, config)`, which sees one module at a time: the weights, none of them 0, and the
float64 factors of the experts that adapt it.
"""

from collections.abc import Sequence
from typing import Any

from medtrain import plugins
from medtrain.config import Config, parse
from medtrain.errors import ConfigError
from medtrain.experts.folder import Factors
from medtrain.experts.products import Weighted


def validate(merge: dict[str, Any]) -> Config:
    """The merge's own config, by its `kind`.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    kind: type[Config] = plugins.load("experts", "merges", str(merge.get("kind", "cat"))).Config
    return parse(kind, merge)


def merge(parts: Weighted, merge: dict[str, Any]) -> Factors:
    """What a configured merge makes of one module.

    Raises:
        ConfigError: the experts' factors do not go with this merge.
    """
    made: Factors = plugins.load("experts", "merges", str(merge.get("kind", "cat"))).merge(parts, validate(merge))
    return made


def equal_rank(kind: str, factors: Sequence[Factors]) -> None:
    """Refuse experts of unequal ranks, for a merge that adds factors up.

    Raises:
        ConfigError: says which ranks there are.
    """
    ranks = {f.rank for f in factors}
    if len(ranks) > 1:
        raise ConfigError(
            f"merge.kind={kind}: it adds A to A and B to B, and the experts have ranks {sorted(ranks)}; "
            "take merge.kind: cat or svd, or experts of one rank"
        )
