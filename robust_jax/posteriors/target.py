"""What samplers sample: the density of a network's weights given data, whole or estimated from a few examples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from robust_jax.posteriors.likelihoods import Likelihood, log_likelihoods
from robust_jax.posteriors.priors import FittedPrior, Prior
from robust_jax.predictors import apply_network
from robust_jax.types import Batch, Images, Model, PRNGKey


class Examples(NamedTuple):
    """The data, in parts of equal size that are computed one after the other; padding has weight 0."""

    image: Float[Array, "parts b h w c"]
    label: Array
    weight: Float[Array, "parts b"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Target:
    """The posterior density of unit weights (see :mod:`~robust_jax.posteriors.priors`), up to a constant."""

    prior: FittedPrior
    """Of the weights."""
    model_state: PyTree
    """The network's other collections."""
    examples: Examples
    """The data."""
    count: Float[Array, ""]
    """N."""
    model: Model = dataclasses.field(metadata={"static": True})
    """The network."""
    likelihood: Likelihood = dataclasses.field(metadata={"static": True})
    """Of the labels."""
    sigma: float = dataclasses.field(metadata={"static": True})
    """Standard deviation of a normal likelihood."""

    def log_density(self, unit: PyTree) -> Float[Array, ""]:
        """log p(D | w) + log p(u) over all examples."""
        params = self.prior.weights(unit)

        @jax.checkpoint  # So that of one part's activations at a time there is memory.
        def add(total: Float[Array, ""], part: Examples) -> tuple[Float[Array, ""], None]:
            return total + self._log_likelihood(params, part), None

        if len(self.examples.weight) == 1:
            found = self._log_likelihood(params, jax.tree.map(lambda leaf: leaf[0], self.examples))
        else:
            found = jax.lax.scan(add, jnp.float32(0), self.examples)[0]
        return found + self.prior.unit_log_density(unit)

    def gradient(self, key: PRNGKey, unit: PyTree, batch_size: int) -> PyTree:
        """An unbiased estimate of the log density's gradient, from examples drawn with replacement."""

        def estimate(unit: PyTree) -> Float[Array, ""]:
            return self.estimated_log_likelihood(key, unit, batch_size) + self.prior.unit_log_density(unit)

        return jax.grad(estimate)(unit)

    def estimated_log_likelihood(self, key: PRNGKey, unit: PyTree, batch_size: int) -> Float[Array, ""]:
        """An unbiased estimate of log p(D | w), from examples drawn with replacement."""
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self.examples)
        # Padding is at the end.
        rows = jax.random.randint(key, (batch_size,), 0, self.count.astype(jnp.int32))
        some = jax.tree.map(lambda leaf: leaf[rows], flat)
        return self.count / batch_size * self._log_likelihood(self.prior.weights(unit), some)

    def _log_likelihood(self, params: PyTree, examples: Examples) -> Float[Array, ""]:
        variables = {"params": params, **self.model_state}
        output = apply_network(self.model, variables, examples.image, train=False)
        each = log_likelihoods(self.likelihood, self.sigma, output.prediction, examples.label)
        return jnp.sum(examples.weight * each)


def target_of(
    model: Model, variables: PyTree, prior: Prior, examples: Examples, likelihood: Likelihood, sigma: float
) -> Target:
    """Of a network like the one with these variables, its prior fitted to the images."""
    params = variables["params"]
    return Target(
        prior=prior.fit(model, params, all_images(examples)),
        model_state={name: value for name, value in variables.items() if name != "params"},
        examples=examples,
        count=examples.weight.sum(),
        model=model,
        likelihood=likelihood,
        sigma=sigma,
    )


def examples_of(batches: Iterable[Batch]) -> Examples:
    """All examples without padding, in parts no larger than the largest batch.

    Raises:
        ValueError: if there are none.
    """
    images, labels, size = [], [], 1
    for batch in batches:
        mask = np.asarray(batch.mask)
        images.append(np.asarray(batch.image)[mask])
        labels.append(np.asarray(batch.label)[mask])
        size = max(size, len(mask))
    count = sum(map(len, images))
    if count == 0:
        raise ValueError("Expected data to fit, got none.")
    parts = math.ceil(count / size)
    size = math.ceil(count / parts)

    def in_parts(rows: np.ndarray) -> Array:
        padding = np.zeros((parts * size - count, *rows.shape[1:]), rows.dtype)
        return jnp.asarray(np.concatenate([rows, padding]).reshape(parts, size, *rows.shape[1:]))

    return Examples(
        in_parts(np.concatenate(images)), in_parts(np.concatenate(labels)), in_parts(np.ones(count, np.float32))
    )


def all_images(examples: Examples) -> Images:
    """Without padding."""
    flat = examples.image.reshape(-1, *examples.image.shape[2:])
    return flat[: int(examples.weight.sum())]
