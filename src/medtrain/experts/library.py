"""A library: the adapters of a plan side by side, each as plain LoRA in PEFT's layout, with what is known of them."""

from typing import Any

from medtrain import artifacts
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.experts import fold, folder
from medtrain.experts.plan import Plan
from medtrain.storage import Store

KIND = "library"


def assemble(root: Store, plan: Plan, made: dict[str, Artifact], policy: Policy) -> Artifact:
    """Fold every expert into library/<plan>; a library of other experts is replaced.

    Raises:
        ConfigError: an expert kept no rank at all.
    """
    names = {name: {"category": plan.experts[name].category} for name in made}
    inputs = {f"expert/{artifact.name}": artifact.fingerprint for artifact in made.values()}
    code = artifacts.code_hash(artifacts.room_code("experts"))
    identity = Identity({"experts": names}, inputs, code)
    build = artifacts.begin_cache(root, KIND, plan.name, identity, Policy(policy.keep_stale))
    if isinstance(build, Artifact):
        return build
    for note in build.notes:
        print(note)
    facts = {}
    for name, artifact in made.items():
        adapter = fold.read(artifact.store, "adapter")
        folder.write(build.store, name, adapter)
        ranks = {module: factors.rank for module, factors in adapter.modules.items()}
        facts[name] = {**_facts(root, plan, name, artifact), "ranks": ranks}
    return build.finish({"base": next(iter(made.values())).facts["base"], "experts": facts})


def _facts(root: Store, plan: Plan, name: str, artifact: Artifact) -> dict[str, Any]:
    """What a reader of the library must know of an expert."""
    data = artifacts.locate(root, "data", artifact.name)
    rows: dict[str, int] = {}
    for splits in data.facts["by_source"].values():
        for split, count in splits.items():
            rows[split] = rows.get(split, 0) + count
    local = "local" in data.facts["splits"].values()
    return {
        "category": plan.experts[name].category,
        "run": f"{artifact.kind}/{artifact.name}",
        "rows": rows,
        "split": "local" if local else "corpus",
        "non_commercial": plan.experts[name].non_commercial,
        **{key: artifact.facts[key] for key in ("step", "first_loss", "last_loss") if key in artifact.facts},
    }
