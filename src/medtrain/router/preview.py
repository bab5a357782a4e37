"""A plan of fits, and what came of them, as tables."""

from collections.abc import Sequence

from medtrain.artifacts import Artifact
from medtrain.errors import MedtrainError
from medtrain.experts.fuse import place
from medtrain.router import inputs, methods, plan
from medtrain.router.inputs import Inputs
from medtrain.router.methods import Work
from medtrain.router.plan import RoutingPlan
from medtrain.storage import Store
from medtrain.train import estimate
from medtrain.train.command import EstimateConfig
from medtrain.train.settings import TrainConfig

JUDGED = 3
"""Weights whose losses every fit ends with: none, equal ones, its own."""


def table(root: Store, planned: RoutingPlan, asked: EstimateConfig, devices: int) -> str:
    """A line for each fit: what it takes, as far as its inputs exist.

    Raises:
        ConfigError: there is no such device class.
    """
    fits = plan.fits(planned)
    lines = [f"{len(planned.tasks)} tasks x {len(planned.variants)} variants = {len(fits)} fits"]
    total_s = 0.0
    for config in fits.values():
        try:
            given = inputs.read(root, config)
        except MedtrainError as error:
            lines.append(f"  router/{config.name}: cannot be planned yet: {error}")
            continue
        took_s = seconds(given, asked.device) / devices
        total_s += took_s
        lines.append(f"  router/{config.name}: {_sizes(given)}; {took_s:,.0f} s")
    where = f"{devices} x {asked.device} at {estimate.UTILISATION:.0%} of its peak"
    return "\n".join([*lines, f"together {total_s:,.0f} s on {where} (a guess to a factor of two)"])


def work_of(given: Inputs) -> Work:
    """What a fit takes at most."""
    granularity = given.config.router.granularity
    places = {place(module, granularity) for facts in given.facts.values() for module in facts["ranks"]}
    return methods.work(given.config.method, (len(places), len(given.facts)), len(given.rows["fit"]))


def seconds(given: Inputs, device: str) -> float:
    """How long a fit takes on one device, by counted operations; experts' own factors are left out."""
    from medtrain.train import footprint

    found, model = work_of(given), given.config.model.model_dump(mode="json")
    shape = footprint.shape_of(
        given.base_path, TrainConfig.model_validate({"name": "x", "tokens": "x", "model": model})
    )
    passes = {"fit": found.candidates + 2 * found.descents + JUDGED, "held out": JUDGED}
    heads, _, size = shape.attention
    flops = 0.0
    for part, samples in given.rows.items():
        for sample in samples:
            length = len(sample.input_ids)
            layers = sum(out * inner for out, inner in shape.linears) + shape.layers * heads * size * length
            head = shape.hidden * shape.vocabulary * sample.trained_tokens
            flops += passes[part] * 2 * (length * layers + head)
    return flops / (estimate.peak(device) * estimate.UTILISATION)


def results(made: Sequence[Artifact]) -> str:
    """A line for each router: losses and the experts that it leans on."""
    width = max(len(router.name) for router in made)
    lines = [f"{'router':{width}}  rows   base  average  fitted  (held out, else fitted to)  largest weights"]
    for router in made:
        facts = router.facts
        rows = "held out" if "held out" in facts["losses"] else "fit"
        losses, weights = facts["losses"][rows], facts["weights"]
        shown = "  ".join(
            f"{losses[name]:6.4f}" if name in losses else "     -" for name in ("base", "average", "fitted")
        )
        first = sorted(weights.items(), key=lambda item: -item[1])[:3]
        names = ", ".join(f"{name} {weight:.3f}" for name, weight in first)
        lines.append(f"{router.name:{width}}  {facts['rows'][rows]['rows']:4}  {shown}  {rows:8}  {names}")
    return "\n".join(lines)


def _sizes(given: Inputs) -> str:
    """A fit's rows and passes in words."""
    found, rows = work_of(given), given.rows
    tokens = sum(len(sample.input_ids) for sample in rows["fit"])
    parts = [
        f"{found.steps} steps" if found.steps else "",
        f"{found.candidates} candidates" if found.candidates else "",
    ]
    parts.append(f"{found.descents} epochs with gradients" if found.descents else "")
    doing = ", ".join(part for part in parts if part) or "nothing to fit"
    return f"{len(rows['fit'])} rows, {tokens:,} tokens, judged on {len(rows['held out'])}; {doing}"
