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
    experts, places = list(facts["weights"]), len(weights.values)
    drawn = f"{facts['rows']} rows of the split `{config.split}` of `tokens/{config.tokens}`"
    lines = [
        f"# router/{config.name}",
        "",
        f"{len(experts)} experts of `library/{config.library}` over `{facts['base']}`, weighed by `{facts['method']}` "
        f"for {drawn} ({facts['trained_tokens']:,} trained tokens), seed {config.seed}.",
        "",
        "| loss per trained token, in nats, on these rows | |",
        "|---|---|",
        *(f"| {name} | {loss:.4f} |" for name, loss in facts["losses"].items()),
        "",
        f"| expert | weight{' (mean of places, least, largest)' if places > 1 else ''} |",
        "|---|---|",
    ]
    table = np.array(list(weights.values.values()))
    for number, name in enumerate(experts):
        column = table[:, number]
        span = f" ({column.min():.4f}, {column.max():.4f})" if places > 1 else ""
        lines.append(f"| {name} | {column.mean():.4f}{span} |")
    lines += ["", f"{places} place(s) with weights of their own (`{weights.granularity}`)."]
    if "entropy" in facts:
        lines.append(
            f"Entropy {facts['entropy']:.4f} nats of {math.log(len(experts)):.4f}; "
            f"sum of squares {facts['concentration']:.4f}."
        )
    ranks = sorted(facts["ranks"].values())
    lines += [
        f"Fused by `{config.merge['kind']}`: ranks {ranks[0]} to {ranks[-1]}, "
        f"relative error {facts['fusion_error']:.2e}.",
        f"tau {config.router.tau}, gamma1 {config.router.gamma1}, form {config.router.form}; "
        + ", ".join(f"{key} {value}" for key, value in config.method.items() if key != "kind"),
        "The losses are those of the rows that were fitted to; judge the system on its test split.",
    ]
    if facts["non_commercial"]:
        lines += [
            "",
            f"Not for commercial use: {', '.join(facts['non_commercial'])} learnt from corpora that forbid it.",
        ]
    return "\n".join(lines) + "\n"
