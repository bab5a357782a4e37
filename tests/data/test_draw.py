"""Draws by seed and name."""

import numpy as np

from medtrain.data.draw import key, share, smallest

NAMES = [f"document {n // 2}" for n in range(1000)]


def test_drawing_from_parts_and_again_is_drawing_from_the_whole() -> None:
    whole = [NAMES[n] for n in smallest(3, NAMES, 200)]
    parts = [NAMES[start : start + 130] for start in range(0, 1000, 130)]
    drawn = [part[n] for part in parts for n in smallest(3, part, 200)]
    assert [drawn[n] for n in smallest(3, drawn, 200)] == whole
    assert len(set(whole)) == 100


def test_draws_are_even_and_independent_of_each_other() -> None:
    shares = np.array([[share(*draw, f"d{n}") for n in range(4000)] for draw in ((1, "a"), (1, "b"), (2, "a"))])
    assert np.abs(shares.mean(axis=1) - 0.5).max() < 0.02
    correlations = np.corrcoef(shares)
    assert np.abs(correlations[np.triu_indices(3, 1)]).max() < 0.05
    # A fixed point: another value here means that every sample and holdout ever drawn has changed.
    assert key(42, "holdout", "pmid:1") == 12537673729854776364
