"""A fitted router as a page: what it was fitted to, what it found, and what that is worth."""

import math
from typing import Any

import numpy as np

from medtrain.experts.fuse import Weights
from medtrain.router.settings import FitConfig


def text(config: FitConfig, facts: dict[str, Any], weights: Weights) -> str:
    """The card, in Markdown.

    Args:
        config: the fit.
        facts: its manifest's.
        weights: the fitted ones.
    """
    experts, fitted_to = list(facts["weights"]), facts["rows"]["fit"]
    lines = [
        f"# router/{config.name}",
        "",
        f"{len(experts)} experts of `library/{config.library}` over `{facts['base']}`, weighed by `{facts['method']}` "
        f"for {fitted_to['rows']} rows of the split `{config.split}` of `tokens/{config.tokens}` "
        f"({fitted_to['trained_tokens']:,} trained tokens), seed {config.seed}.",
        "",
        *_losses(config, facts),
        "",
        *_weights(experts, config.own, weights),
        "",
    ]
    if "entropy" in facts:
        lines.append(
            f"Entropy {facts['entropy']:.4f} nats of {math.log(len(experts)):.4f}, "
            f"sum of squares {facts['concentration']:.4f}."
        )
    ranks = sorted(facts["ranks"].values())
    settings = ", ".join(f"{key} {value}" for key, value in config.method.items() if key != "kind")
    lines += [
        f"Fused by `{config.merge['kind']}`: ranks {ranks[0]} to {ranks[-1]}, "
        f"relative error {facts['fusion_error']:.2e}.",
        f"Form {config.router.form}, tau {config.router.tau}, gamma1 {config.router.gamma1}"
        + (f"; {settings}." if settings else "."),
    ]
    if config.rank is not None:
        lines.append(f"The losses are those before it was cut to rank {config.rank}.")
    if facts["non_commercial"]:
        names = ", ".join(facts["non_commercial"])
        lines += ["", f"Not for commercial use: {names} learnt from corpora that forbid it."]
    return "\n".join(lines) + "\n"


def _losses(config: FitConfig, facts: dict[str, Any]) -> list[str]:
    """Losses by weights and rows, and what they are not."""
    found, head = facts["losses"], "| loss per trained token, nats | on the rows that were fitted to |"
    if "held out" not in found:
        table = [head, "|---|---|", *(f"| {name} | {loss:.4f} |" for name, loss in found["fit"].items())]
        return [*table, "", f"The task has no rows in `{config.held_out.split}`: nothing is known of other rows."]
    judged = facts["rows"]["held out"]["rows"]
    pairs = ((name, loss, found["held out"][name]) for name, loss in found["fit"].items())
    return [
        f"{head} on {judged} of `{config.held_out.split}` |",
        "|---|---|---|",
        *(f"| {name} | {loss:.4f} | {other:.4f} |" for name, loss, other in pairs),
    ]


def _weights(experts: list[str], own: str | None, weights: Weights) -> list[str]:
    """A line for each expert."""
    table, places = np.array(list(weights.values.values())), len(weights.values)
    span = f" (mean of {places} places, least, largest)" if places > 1 else ""
    lines = [f"| expert | weight{span} |", "|---|---|"]
    for name, column in zip(experts, table.T, strict=True):
        spread = f" ({column.min():.4f}, {column.max():.4f})" if places > 1 else ""
        lines.append(f"| {name}{' (its own)' if name == own else ''} | {column.mean():.4f}{spread} |")
    return lines
