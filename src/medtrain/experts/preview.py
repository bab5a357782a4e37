"""A plan, and a library, as tables."""

from medtrain import artifacts
from medtrain.artifacts import Artifact
from medtrain.data import pipeline as data
from medtrain.errors import ConfigError, DataError, MissingArtifact
from medtrain.experts.plan import Plan, artifact_name, data_config, run_config
from medtrain.experts.work import work_of
from medtrain.storage import Store
from medtrain.train import adapters


def table(root: Store, plan: Plan) -> str:
    """A line for each expert: rows, steps and tokens as far as its tokens exist, and what its schedule says to that."""
    lines = [f"library/{plan.name}: {len(plan.experts)} experts"]
    for name, specialty in plan.experts.items():
        mark = ", non-commercial" if specialty.non_commercial else ""
        sources = ", ".join(source.label for source in specialty.sources)
        lines.append(f"  {name:20} {specialty.category:22} {_size(root, plan, name)}  <- {sources}{mark}")
    return "\n".join(lines)


def _size(root: Store, plan: Plan, name: str) -> str:
    try:
        item = work_of(artifacts.locate(root, "tokens", artifact_name(plan, name)), run_config(plan, name), name)
    except MissingArtifact:
        return "size unknown until its tokens are made" + _absent(plan, name)
    size = f"{item.rows:7,} rows {item.steps:6,} steps {item.tokens:11,} tokens"
    try:
        adapters.check_length(item.config.adapter, item.steps)
    except ConfigError as error:
        return f"{size}  REFUSED: {error}"
    return size


def _absent(plan: Plan, name: str) -> str:
    """What its corpus lacks on this machine."""
    try:
        if plan.root != "demo":
            data.plan(data_config(plan, name))
    except DataError as error:
        return f"  MISSING: {error}"
    return ""


def library_table(library: Artifact) -> str:
    """A line for each adapter of a library: rows, whose split it is, ranks and losses."""
    lines = [f"{'expert':20} {'category':22} {'rows':>7} {'split':7} {'rank':>5}  loss"]
    for name, facts in library.facts["experts"].items():
        loss = f"{facts.get('first_loss', float('nan')):.3f} -> {facts.get('last_loss', float('nan')):.3f}"
        mark = "  non-commercial" if facts["non_commercial"] else ""
        rows = sum(facts["rows"].values())
        mean = sum(facts["ranks"].values()) / len(facts["ranks"])
        lines.append(f"{name:20} {facts['category']:22} {rows:7,} {facts['split']:7} {mean:5.2f}  {loss}{mark}")
    return "\n".join(lines)
