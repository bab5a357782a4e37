"""HTML pages that need nothing else: one look, and how it was made at the end of each."""

from collections.abc import Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from medtrain.artifacts import Artifact


def render(template: str, name: str, chain: Sequence[Artifact], settings: dict[str, Any], **values: Any) -> str:
    """A whole page.

    Args:
        template: a room's, by its path in the package; it extends `page.html.jinja` by a block `body`.
        name: the title.
        chain: the artifacts that it is about, in the order of the flow.
        settings: what it was made by, under the name of its artifact.
        values: what the template's own part is about.
    """
    environment = Environment(
        loader=PackageLoader("medtrain", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    every = {**settings, **{f"{a.kind}/{a.name}": a.manifest["identity"]["config"] for a in chain}}
    shown = [(title, as_yaml(content)) for title, content in every.items()]
    return environment.get_template(template).render(name=name, chain=chain, settings=shown, **values)


def as_yaml(value: Any) -> str:
    """Settings as people write them."""
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=110)
