"""Algebra of low-rank products: sums, norms, distances and best approximations, without an (out, in) matrix.

By QR of the factors: with B = Q_B R_B and A^T = Q_A R_A, the update B A is Q_B (R_B R_A^T) Q_A^T, and the small matrix
in the middle has its norm and its singular values.
"""

from collections.abc import Sequence

import torch

from medtrain.experts.folder import Factors

Weighted = Sequence[tuple[float, Factors]]
"""A weight and an expert's factors of one module, for each expert that adapts it."""


def exact_sum(parts: Weighted) -> Factors:
    """sum_i w_i s_i B_i A_i (eq. (10), STAF-LLM) as one product, by concatenation; its rank is the sum of the ranks."""
    A = torch.cat([weight * factors.scale * factors.A for weight, factors in parts])
    return Factors(A, torch.cat([factors.B for _, factors in parts], dim=1))


def best(factors: Factors, rank: int) -> Factors:
    """The product of at most this rank that is nearest in the Frobenius norm (Eckart and Young, 1936)."""
    Q_B, R_B = torch.linalg.qr(factors.B)
    Q_A, R_A = torch.linalg.qr(factors.A.T)
    U, S, Vh = torch.linalg.svd(factors.scale * R_B @ R_A.T, full_matrices=False)
    root = S[:rank].sqrt()
    return Factors(root[:, None] * Vh[:rank] @ Q_A.T, Q_B @ (U[:, :rank] * root))


def norm(factors: Factors) -> float:
    """The Frobenius norm of the update."""
    R_B, R_A = torch.linalg.qr(factors.B, mode="r").R, torch.linalg.qr(factors.A.T, mode="r").R
    return float((factors.scale * R_B @ R_A.T).norm())


def distance(one: Factors, other: Factors) -> float:
    """The Frobenius norm of the difference of two updates of a module."""
    return norm(exact_sum([(1.0, one), (-1.0, other)]))
