"""A network's weights as blocks, and derivatives of its logits block by block.

A block is a matrix: the kernel of a dense layer or convolution, with what it reads at one position along the rows, its
bias as the last row, and its outputs along the columns; or any other parameter, as one row. The derivative of a logit
in the matrix of a layer is the sum over positions of what the layer reads times the logit's derivative in what the
layer writes, so that neither has the size of the weights: products of both are never formed but for one layer at a
time, and for layers of one position not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from robust_jax.core.checks import nearest
from robust_jax.core.platform import on_cpu
from robust_jax.models import LinearLayer, apply_tapped, linear_layers
from robust_jax.predictors import apply_network
from robust_jax.types import Image, Images, Model

Path = tuple[str, ...]
Matrix = Float[Array, "i o"]
precise = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
"""Sums of products in full single precision on every device."""


CPU_BYTES = 2**25
"""What is computed at once on a CPU, whatever memory there is: near what its caches hold (measured)."""
LAST_LAYER = "head"
"""Name of the last layer among the parameters."""
SPARSE = 8
"""Of a block of which fewer than one weight in so many is asked for, only these derivatives are computed."""


class Block(NamedTuple):
    """Some weights of a network, as a matrix."""

    name: str
    """Of the layer or parameter, such as ``stage0_block0/conv0``."""
    paths: tuple[Path, ...]
    """Of its parameters: kernel and bias, or the one there is."""
    shape: tuple[int, int]
    """Rows and columns."""
    layer: LinearLayer | None
    """None if it is a parameter by itself."""

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.shape[0] * self.shape[1]

    def reads(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b positions i"]:
        """What a layer multiplies with its matrix at every position, a one for its bias included."""
        layer, parts = self.layer, []
        if layer is None:
            raise ValueError(f"Expected a layer, got {self.name}, a parameter that reads nothing.")
        found = layer.reads(inputs.astype(jnp.float32))
        if self.paths[0] == (*layer.path, "kernel"):
            parts.append(found)
        if self.paths[-1] == (*layer.path, "bias"):
            parts.append(jnp.ones_like(found[..., :1]))
        return jnp.concatenate(parts, axis=-1)


class Derivatives(NamedTuple):
    """Of some sums of logits, of a batch, by a block."""

    reads: Float[Array, "b positions i"] | None
    """What the layer reads, a one for the bias included; None for a parameter by itself."""
    pulls: Float[Array, "b c positions o"]
    """Derivatives in what the layer writes, or in the parameter."""

    @property
    def column(self) -> Float[Array, "b i"] | None:
        """Inputs of a layer of one position, whose derivatives are this column times a row; None elsewhere."""
        return self.reads[:, 0] if self.reads is not None and self.reads.shape[1] == 1 else None


def network_blocks(
    model: Model, variables: PyTree, image_shape: tuple[int, int, int], *, separate_bias: bool = False
) -> tuple[Block, ...]:
    """All weights of a network: its linear layers, then its other parameters.

    Args:
        model: the network.
        variables: its variables, or their shapes.
        image_shape: (h, w, c).
        separate_bias: whether biases are blocks by themselves.

    Raises:
        ValueError: if a batch norm is in training mode.
    """
    leaves = {
        tuple(entry.key for entry in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables["params"])[0]
    }
    blocks, taken = [], set()
    for layer in linear_layers(model, variables, image_shape)[0]:
        kernel, bias = (*layer.path, "kernel"), (*layer.path, "bias")
        paths = (kernel, bias) if bias in leaves else (kernel,)
        rows = (layer.num_reads, 1)
        taken |= set(paths)
        if separate_bias:
            names = ("/".join(layer.path), "/".join(bias))
            blocks += [
                Block(name, (path,), (num, layer.num_outputs), layer)
                for name, path, num in zip(names, paths, rows, strict=False)
            ]
        else:
            blocks.append(Block("/".join(layer.path), paths, (sum(rows[: len(paths)]), layer.num_outputs), layer))
    others = [
        Block("/".join(path), (path,), (1, leaf.size), None) for path, leaf in leaves.items() if path not in taken
    ]
    return (*blocks, *others)


def chosen_blocks(blocks: tuple[Block, ...], weights: str | tuple[str, ...]) -> tuple[Block, ...]:
    """All, those of the last layer, or those of given names; the name of a module stands for all in it.

    Raises:
        ValueError: if there is none of a name; the nearest is named.
    """
    if weights == "all":
        return blocks
    names = (weights,) if isinstance(weights, str) else weights
    names = (LAST_LAYER,) if weights == "last_layer" else names
    within = lambda block, name: block.name == name or block.name.startswith(f"{name}/")  # noqa: E731
    for name in names:
        if not any(within(block, name) for block in blocks):
            raise ValueError(f"Unknown layer {name!r}.{nearest(name, [block.name for block in blocks])}")
    return tuple(block for block in blocks if any(within(block, name) for name in names))


def block_values(blocks: tuple[Block, ...], params: PyTree) -> dict[str, Matrix]:
    """The weights of each block, by its name."""

    def values(block: Block) -> Matrix:
        leaves = [jnp.asarray(_leaf(params, path)) for path in block.paths]
        return jnp.concatenate([leaf.reshape(-1, block.shape[1]) for leaf in leaves])

    return {block.name: values(block) for block in blocks}


def with_values(params: PyTree, blocks: tuple[Block, ...], values: Mapping[str, Matrix]) -> PyTree:
    """The parameters with other weights in these blocks, given as :func:`block_values` gives them."""
    for block in blocks:
        start = 0
        for path in block.paths:
            leaf = _leaf(params, path)
            rows = leaf.size // block.shape[1]
            params = _with_leaf(params, path, values[block.name][start : start + rows].reshape(leaf.shape))
            start += rows
    return params


def derivatives(
    model: Model,
    blocks: tuple[Block, ...],
    variables: PyTree,
    images: Images,
    sums_fn: Callable[..., Float[Array, "c k"]],
    *given: PyTree,
) -> tuple[Float[Array, "b k"], dict[str, Derivatives]]:
    """The logits, and by each block the derivatives of weighted sums of them.

    Args:
        model: the network.
        blocks: some of its weights.
        variables: its variables.
        images: in [0, 1].
        sums_fn: from the logits of one image, and what is given of it, to the weights of its sums.
        given: trees of arrays with a row for each image.
    """
    layers = {block.layer.path: block.layer for block in blocks if block.layer is not None}
    # One image's own, so that derivatives are of each image.
    shifts = {path: jnp.zeros((1, *layer.output_shape)) for path, layer in layers.items()}
    own = {block.paths[0]: _leaf(variables["params"], block.paths[0]) for block in blocks if block.layer is None}

    def forward(image: Image, shifts: Mapping[Path, Array], own: Mapping[Path, Array]):
        params = variables["params"]
        for path, leaf in own.items():
            params = _with_leaf(params, path, leaf)
        if not layers:
            output = apply_network(model, {**variables, "params": params}, image[None], train=False)
            return output.prediction[0], {}
        output, inputs = apply_tapped(model, {**variables, "params": params}, image, shifts)
        return output.prediction[0], {path: value[0] for path, value in inputs.items()}

    # Sums within images, not images within sums: convolutions of both then stay divided over devices by images.
    def one(image: Image, *given: PyTree):
        logits, pull, inputs = jax.vjp(partial(forward, image), shifts, own, has_aux=True)
        return logits, jax.vmap(pull)(sums_fn(logits, *given)), inputs

    logits, (pulled_shifts, pulled_own), inputs = jax.vmap(one)(images, *given)
    found = {}
    for block in blocks:
        if block.layer is None:
            pulls = pulled_own[block.paths[0]]
            found[block.name] = Derivatives(None, pulls.reshape(*pulls.shape[:2], 1, -1))
            continue
        path = block.layer.path
        found[block.name] = Derivatives(block.reads(inputs[path]), block.layer.outputs(pulled_shifts[path]))
    return logits, found


def jacobian(given: Derivatives) -> Float[Array, "b c n"]:
    """Derivatives in the matrix, one column of it after the other: in this order nothing is transposed."""
    size, num_sums, positions, outputs = given.pulls.shape
    if given.reads is None:
        return given.pulls[:, :, 0]
    # One product of matrices for each example.
    pulls = jnp.swapaxes(given.pulls, 1, 2).reshape(size, positions, num_sums * outputs)
    return precise("bpq,bpi->bqi", pulls, given.reads).reshape(size, num_sums, -1)


def jacobian_at(given: Derivatives, places: Int[Array, "s"]) -> Float[Array, "b c s"]:
    """Derivatives in some entries of the matrix, by their places in it as one row."""
    num_rows = 1 if given.reads is None else given.reads.shape[-1]
    num_columns = given.pulls.shape[-1]
    row, column = places // num_columns, places % num_columns
    if given.reads is None or len(places) * SPARSE > num_rows * num_columns:
        return jacobian(given)[:, :, column * num_rows + row]
    return jnp.sum(given.reads[:, None, :, row] * given.pulls[..., column], axis=2)


def products_with(given: Derivatives, vectors: Float[Array, "i o r"]) -> Float[Array, "b c r"]:
    """Inner products of derivatives in the matrix with some matrices."""
    if (column := given.column) is not None:
        return precise("bco,bor->bcr", given.pulls[:, :, 0], precise("bi,ior->bor", column, vectors))
    return precise("bcn,nr->bcr", jacobian(given), jnp.swapaxes(vectors, 0, 1).reshape(-1, vectors.shape[-1]))


def sum_of_squares(given: Derivatives) -> Matrix:
    """Of the derivatives in the matrix, over examples and sums of logits."""
    if (column := given.column) is not None:
        return precise("bi,bo->io", column**2, jnp.sum(given.pulls[:, :, 0] ** 2, axis=1))
    matrix = jacobian(given)
    # Sums over leading axes are slow on a CPU; these additions are one loop, and the rest a product.
    of_each = sum((matrix[:, i] ** 2 for i in range(matrix.shape[1])), jnp.float32(0))
    return precise("b,bn->n", jnp.ones(len(of_each)), of_each).reshape(given.pulls.shape[-1], -1).T


def weighted_products(given: Derivatives, weights: Float[Array, "..."]) -> Float[Array, "b c c"]:
    """Inner products of derivatives in the matrix, with a positive weight for each entry; they broadcast to it."""
    num_rows = 1 if given.reads is None else given.reads.shape[-1]
    weights = jnp.broadcast_to(weights, (num_rows, given.pulls.shape[-1]))
    if (column := given.column) is not None:
        # Over rows first: what remains has a number for each output.
        of_each = precise("bi,io->bo", column**2, weights)
        return precise("bco,bdo->bcd", given.pulls[:, :, 0] * of_each[:, None], given.pulls[:, :, 0])
    scaled = jacobian(given) * jnp.sqrt(weights.T.reshape(-1))[None, None]
    return precise("bcn,bdn->bcd", scaled, scaled)


def _bytes_per_example(block_list: Iterable[Block], num_sums: int) -> int:
    """About what ``derivatives`` and the products of one block at a time need for an example."""
    held, largest = 0, 0
    for block in block_list:
        if block.layer is None:
            held += (num_sums + 1) * block.size
            continue
        written = int(np.prod(block.layer.output_shape))
        positions = written // block.shape[1]
        # What is read counts once for each row of the matrix: patches of convolutions overlap.
        held += (2 * num_sums + 2) * written + positions * block.shape[0]
        largest = max(largest, 2 * num_sums * block.size if positions > 1 else 0)
    return 4 * (held + largest)


def chunk_size(blocks: tuple[Block, ...], num_sums: int, batch_size: int, byte_budget: int, *, num_devices: int) -> int:
    """Examples at once, over all devices that a batch is split over, so that it is in parts of about one size.

    Raises:
        ValueError: if there is not memory enough for one.
    """
    needed = _bytes_per_example(blocks, num_sums)
    if needed > byte_budget:
        raise ValueError(
            f"Expected a byte_budget that holds the derivatives of one example, about {needed:,} bytes, got "
            f"byte_budget={byte_budget:,}."
        )
    at_once = min(byte_budget, CPU_BYTES) if on_cpu() else byte_budget
    num_parts = _up(batch_size, max(at_once // needed, 1) * num_devices)
    return min(_up(_up(batch_size, num_parts), num_devices) * num_devices, batch_size)


def _up(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _leaf(params: PyTree, path: Path) -> Array:
    for name in path:
        params = params[name]
    return params


def _with_leaf(params: PyTree, path: Path, leaf: Array) -> PyTree:
    if not path:
        return leaf
    return {**params, path[0]: _with_leaf(params[path[0]], path[1:], leaf)}
