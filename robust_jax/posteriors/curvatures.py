"""Forms of a curvature matrix H of the loss in the weights: full, Kronecker-factored, diagonal, of low rank.

All are pytrees and answer the same questions about the normal distribution whose precision is H + Δ, where the diagonal
matrix Δ holds the prior precision: covariances of logits, log det(I + Δ⁻¹ H), and draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.posteriors.blocks import (
    Block,
    Derivatives,
    Matrix,
    jacobian_at,
    precise,
    products_with,
    sum_of_squares,
    weighted_products,
)
from robust_jax.types import PRNGKey

Precisions = Float[Array, ""] | Mapping[str, Float[Array, "..."]]
"""Δ: one number for all weights, or by block a number or a matrix of the block's shape."""
Given = Mapping[str, Derivatives]
Blocks = tuple[Block, ...]


class Diag(NamedTuple):
    """The diagonal of H, as a matrix for each block."""

    values: dict[str, Matrix]

    def covariances(self, blocks: Blocks, given: Given, precisions: Precisions) -> Float[Array, "b k k"]:
        """Of logits, by their derivatives."""
        products = (
            weighted_products(given[block.name], 1 / (self.values[block.name] + precision_of(precisions, block.name)))
            for block in blocks
        )
        return sum(products, jnp.float32(0))

    def log_det_ratio(self, blocks: Blocks, precisions: Precisions) -> Float[Array, ""]:
        """log det(I + Δ⁻¹ H)."""
        ratios = (self.values[block.name] / precision_of(precisions, block.name) for block in blocks)
        return sum((jnp.sum(jnp.log1p(ratio)) for ratio in ratios), jnp.float32(0))

    def draw(self, key: PRNGKey, blocks: Blocks, precisions: Precisions) -> dict[str, Matrix]:
        """What is added to the mean."""
        noise = _noise(key, blocks)
        return {name: z / jnp.sqrt(self.values[name] + precision_of(precisions, name)) for name, z in noise.items()}


class Factors(NamedTuple):
    r"""Eigenvalues and eigenvectors of both factors of :math:`A \otimes B`."""

    read_values: Float[Array, "i"]
    read_vectors: Float[Array, "i i"]
    output_values: Float[Array, "o"]
    output_vectors: Float[Array, "o o"]

    @property
    def values(self) -> Matrix:
        """Eigenvalues of the product."""
        return self.read_values[:, None] * self.output_values[None]


class Kron(NamedTuple):
    """A product of two factors for each linear layer, and the diagonal of the other blocks."""

    factors: dict[str, Factors]
    diagonals: dict[str, Matrix]

    def _values(self, name: str) -> Matrix:
        return self.factors[name].values if name in self.factors else self.diagonals[name]

    def covariances(self, blocks: Blocks, given: Given, precisions: Precisions) -> Float[Array, "b k k"]:
        """Of logits, by their derivatives."""
        total = jnp.float32(0)
        for block in blocks:
            own = given[block.name]
            if block.name in self.factors and own.reads is not None:
                factors = self.factors[block.name]
                own = Derivatives(
                    precise("bpi,ij->bpj", own.reads, factors.read_vectors),
                    precise("bcpo,oq->bcpq", own.pulls, factors.output_vectors),
                )
            total = total + weighted_products(
                own, 1 / (self._values(block.name) + precision_of(precisions, block.name))
            )
        return total

    def log_det_ratio(self, blocks: Blocks, precisions: Precisions) -> Float[Array, ""]:
        """log det(I + Δ⁻¹ H)."""
        ratios = (self._values(block.name) / precision_of(precisions, block.name) for block in blocks)
        return sum((jnp.sum(jnp.log1p(ratio)) for ratio in ratios), jnp.float32(0))

    def draw(self, key: PRNGKey, blocks: Blocks, precisions: Precisions) -> dict[str, Matrix]:
        """What is added to the mean."""
        found = {}
        for name, z in _noise(key, blocks).items():
            scaled = z / jnp.sqrt(self._values(name) + precision_of(precisions, name))
            if name in self.factors:
                factors = self.factors[name]
                scaled = precise("ij,jq,oq->io", factors.read_vectors, scaled, factors.output_vectors)
            found[name] = scaled
        return found


class Full(NamedTuple):
    """Eigenvalues and eigenvectors of H, over some weights of the blocks; the others are fixed."""

    values: Float[Array, "s"]
    vectors: Float[Array, "s s"]
    chosen: dict[str, Int[Array, "..."]]
    """Of each block, the weights' places in its matrix as one row."""

    def covariances(self, blocks: Blocks, given: Given, precisions: Precisions) -> Float[Array, "b k k"]:
        """Of logits, by their derivatives."""
        if not isinstance(precisions, Mapping):
            if _is_whole_factored_block(blocks, self.chosen, given):
                turned = products_with(given[blocks[0].name], self.vectors.reshape(*blocks[0].shape, -1))
            else:
                turned = precise("bks,st->bkt", chosen_jacobian(blocks, self.chosen, given), self.vectors)
            return precise("bkt,t,blt->bkl", turned, 1 / (self.values + precisions), turned)
        own = chosen_jacobian(blocks, self.chosen, given)
        root = jnp.linalg.cholesky(self._precision(blocks, precisions))
        turned = jax.scipy.linalg.solve_triangular(root, own.reshape(-1, own.shape[-1]).T, lower=True)
        turned = turned.T.reshape(own.shape)
        return precise("bks,bls->bkl", turned, turned)

    def log_det_ratio(self, blocks: Blocks, precisions: Precisions) -> Float[Array, ""]:
        """log det(I + Δ⁻¹ H)."""
        if not isinstance(precisions, Mapping):
            return jnp.sum(jnp.log1p(self.values / precisions))
        root = jnp.linalg.cholesky(self._precision(blocks, precisions))
        return 2 * jnp.sum(jnp.log(jnp.diagonal(root))) - jnp.sum(jnp.log(self._diagonal(blocks, precisions)))

    def draw(self, key: PRNGKey, blocks: Blocks, precisions: Precisions) -> dict[str, Matrix]:
        """What is added to the mean."""
        noise = jax.random.normal(key, self.values.shape)
        if not isinstance(precisions, Mapping):
            found = precise("st,t->s", self.vectors, noise / jnp.sqrt(self.values + precisions))
        else:
            root = jnp.linalg.cholesky(self._precision(blocks, precisions))
            found = jax.scipy.linalg.solve_triangular(root, noise, lower=True, trans="T")
        drawn, start = {}, 0
        for block in blocks:
            places = self.chosen[block.name]
            row = jnp.zeros(block.size).at[places].set(found[start : start + len(places)])
            drawn[block.name] = row.reshape(block.shape)
            start += len(places)
        return drawn

    def _precision(self, blocks: Blocks, precisions: Precisions) -> Float[Array, "s s"]:
        curvature = precise("st,t,ut->su", self.vectors, self.values, self.vectors)
        return curvature + jnp.diag(self._diagonal(blocks, precisions))

    def _diagonal(self, blocks: Blocks, precisions: Precisions) -> Float[Array, "s"]:
        spread = [jnp.broadcast_to(precision_of(precisions, block.name), block.shape).reshape(-1) for block in blocks]
        return jnp.concatenate([row[self.chosen[block.name]] for row, block in zip(spread, blocks, strict=True)])


class LowRank(NamedTuple):
    """The greatest eigenvalues of H and their eigenvectors; H is taken to be 0 beside them."""

    values: Float[Array, "r"]
    vectors: dict[str, Float[Array, "i o r"]]

    def covariances(self, blocks: Blocks, given: Given, precisions: Precisions) -> Float[Array, "b k k"]:
        """Of logits, by their derivatives."""
        precision = _only(precisions)
        along, total = jnp.float32(0), jnp.float32(0)
        for block in blocks:
            own = given[block.name]
            total = total + weighted_products(own, jnp.ones((1, 1)))
            along = along + products_with(own, self.vectors[block.name])
        return (total - precise("bcr,r,bdr->bcd", along, self.values / (self.values + precision), along)) / precision

    def log_det_ratio(self, blocks: Blocks, precisions: Precisions) -> Float[Array, ""]:
        """log det(I + Δ⁻¹ H)."""
        del blocks
        return jnp.sum(jnp.log1p(self.values / _only(precisions)))

    def draw(self, key: PRNGKey, blocks: Blocks, precisions: Precisions) -> dict[str, Matrix]:
        """What is added to the mean."""
        noise, precision = _noise(key, blocks), _only(precisions)
        along = sum((precise("io,ior->r", z, self.vectors[name]) for name, z in noise.items()), jnp.float32(0))
        shrunk = (1 - jnp.sqrt(precision / (self.values + precision))) * along
        return {
            name: (z - precise("ior,r->io", self.vectors[name], shrunk)) / jnp.sqrt(precision)
            for name, z in noise.items()
        }


Curvature = Diag | Kron | Full | LowRank


def chosen_jacobian(blocks: Blocks, chosen: Mapping[str, Int[Array, "..."]], given: Given) -> Float[Array, "b c s"]:
    """Derivatives in some weights, one block after the other."""
    return jnp.concatenate([jacobian_at(given[block.name], chosen[block.name]) for block in blocks], axis=-1)


def diag_sums(blocks: Blocks, given: Given) -> dict[str, Matrix]:
    """What :class:`Diag` adds up over examples."""
    return {block.name: sum_of_squares(given[block.name]) for block in blocks}


def kron_sums(blocks: Blocks, given: Given, weights: Float[Array, "b"]) -> dict[str, Matrix | tuple[Matrix, Matrix]]:
    r"""What :class:`Kron` adds up over examples, with weight 0 or 1.

    Of a linear layer that reads :math:`a_{nt}` at position t, and of sums of logits whose derivatives in what it writes
    are :math:`g_{nct}`,

    .. math:: A = \sum_{nt} a_{nt} a_{nt}^\top, \quad B = \sum_{nct} g_{nct} g_{nct}^\top.
    """
    found = {}
    for block in blocks:
        own = given[block.name]
        if own.reads is None:
            found[block.name] = sum_of_squares(own)
            continue
        found[block.name] = _gram(own.reads * weights[:, None, None]), _gram(own.pulls)
    return found


def full_sums(blocks: Blocks, chosen: Mapping[str, Int[Array, "..."]], given: Given) -> Float[Array, "s s"]:
    """What :class:`Full` adds up over examples."""
    own = given[blocks[0].name]
    column = own.column
    if column is None or not _is_whole_factored_block(blocks, chosen, given):
        return _gram(chosen_jacobian(blocks, chosen, given))
    # As of a last layer: the sum over examples of Kronecker products, one product of two matrices.
    of_outputs = precise("bco,bcq->boq", own.pulls[:, :, 0], own.pulls[:, :, 0])
    of_reads = precise("bi,bj->bij", column, column)
    size = blocks[0].size
    return precise("bij,boq->iojq", of_reads, of_outputs).reshape(size, size)


def kron_curvature(blocks: Blocks, sums: Mapping[str, Matrix | tuple[Matrix, Matrix]], count: float) -> Kron:
    r"""The curvature :math:`A \otimes B / (N T)` of N examples and T positions (KFAC-expand)."""
    factors, diagonals = {}, {}
    for block in blocks:
        found = sums[block.name]
        if block.layer is None:
            diagonals[block.name] = found
            continue
        positions = int(np.prod(block.layer.output_shape)) // block.shape[1]
        factors[block.name] = Factors(*_eigen(found[0] / (count * positions)), *_eigen(found[1]))
    return Kron(factors, diagonals)


def full_curvature(sums: Float[Array, "s s"], chosen: Mapping[str, Int[Array, "..."]]) -> Full:
    """The curvature from its sum."""
    return Full(*_eigen(sums), dict(chosen))


def low_rank_curvature(
    multiply: Callable[[dict[str, Matrix]], dict[str, Matrix]], blocks: Blocks, rank: int, start: np.ndarray
) -> LowRank:
    """The curvature's greatest eigenvalues by Lanczos' method, restarted (ARPACK).

    Args:
        multiply: the product of H with a vector.
        blocks: the weights.
        rank: how many, less than there are weights.
        start: the first vector, one number for each weight.
    """
    from scipy.sparse import linalg  # Loaded where it is used: it takes long.

    splits = np.cumsum([block.size for block in blocks])[:-1]

    def product(vector: np.ndarray) -> np.ndarray:
        parts = np.split(np.asarray(vector, np.float32).reshape(-1), splits)
        found = multiply(
            {block.name: jnp.asarray(part.reshape(block.shape)) for block, part in zip(blocks, parts, strict=True)}
        )
        return np.concatenate([np.asarray(found[block.name]).reshape(-1) for block in blocks])

    # SciPy declares the constructor of subclasses alone.
    operator = linalg.LinearOperator((len(start),) * 2, matvec=product, dtype=np.float32)  # pyright: ignore[reportCallIssue]
    values, vectors = linalg.eigsh(operator, k=rank, which="LA", v0=start)
    parts = np.split(vectors, splits)
    return LowRank(
        jnp.maximum(jnp.asarray(values, jnp.float32), 0),
        {
            block.name: jnp.asarray(part.reshape(*block.shape, rank), jnp.float32)
            for block, part in zip(blocks, parts, strict=True)
        },
    )


def _is_whole_factored_block(blocks: Blocks, chosen: Mapping[str, Int[Array, "..."]], given: Given) -> bool:
    if len(blocks) != 1:
        return False
    return given[blocks[0].name].column is not None and len(chosen[blocks[0].name]) == blocks[0].size


def _gram(rows: Float[Array, "... n"]) -> Float[Array, "n n"]:
    """Sum of the rows' outer products."""
    rows = rows.reshape(-1, rows.shape[-1])
    return precise("ri,rj->ij", rows, rows)


def _eigen(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n"], Float[Array, "n n"]]:
    # On the host, in double precision: it is done once, and the least eigenvalues are lost in single.
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    return jnp.asarray(np.maximum(values, 0), jnp.float32), jnp.asarray(vectors, jnp.float32)


def _noise(key: PRNGKey, blocks: Blocks) -> dict[str, Matrix]:
    keys = jax.random.split(key, len(blocks))
    return {block.name: jax.random.normal(k, block.shape) for k, block in zip(keys, blocks, strict=True)}


def _only(precisions: Precisions) -> Float[Array, ""]:
    if isinstance(precisions, Mapping):
        raise ValueError(f"Expected one prior precision for all weights, got one for each of {', '.join(precisions)}.")
    return precisions


def precision_of(precisions: Precisions, name: str) -> Float[Array, "..."]:
    """That of one block."""
    return precisions[name] if isinstance(precisions, Mapping) else precisions
