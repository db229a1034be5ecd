"""A normal distribution along the path of SGD from trained weights (SWAG), and its mean (SWA)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.mesh import split_beside
from robust_jax.models import predictor
from robust_jax.posteriors.likelihoods import log_likelihoods
from robust_jax.posteriors.norm_statistics import recomputed_norms
from robust_jax.predictors import Ensemble, MemberPredictor, apply_network, stack
from robust_jax.types import Batch, Images, Labels, Model, PRNGKey


class Moments(NamedTuple):
    """Of the weights along the path: how many there were, their mean, the sum of squared deviations from it by entry,
    and the last ``rank`` deviations from the mean as it was then, along a first axis, the newest at the end."""

    count: Float[Array, ""]
    mean: PyTree
    squares: PyTree
    deviations: PyTree

    @classmethod
    def start(cls, params: PyTree, rank: int) -> Moments:
        """Of these weights alone."""
        room = jax.tree.map(lambda leaf: jnp.zeros((rank, *leaf.shape), leaf.dtype), params)
        return cls(jnp.float32(1), params, jax.tree.map(jnp.zeros_like, params), room)

    def add(self, params: PyTree) -> Moments:
        """With one more; by differences (Welford, 1962), since squares would lose the digits that deviations have."""
        count = self.count + 1
        mean = jax.tree.map(lambda m, w: m + (w - m) / count, self.mean, params)
        squares = jax.tree.map(lambda s, old, new, w: s + (w - old) * (w - new), self.squares, self.mean, mean, params)
        newest = jax.tree.map(lambda d, m, w: jnp.concatenate([d, (w - m)[None]])[1:], self.deviations, mean, params)
        return Moments(count, mean, squares, newest)


@dataclasses.dataclass(frozen=True)
class Swag:
    r"""Weights averaged along SGD with a constant learning rate, and normal deviations from their mean.

    .. math:: \mathcal N\Big(\bar\theta, \; s \Big(\Sigma_\mathrm{diag} + \frac{1}{K - 1} D D^\top\Big)\Big), \quad
        \Sigma_\mathrm{diag} = \mathrm{diag}\big(\overline{\theta^2} - \bar\theta^2\big), \quad
        D_i = \theta_i - \bar\theta_i

    over the trained weights and those along the path, D holding the last K deviations from the mean as it was then.
    With ``scale=0`` every sample is the mean, which is SWA; with ``rank=0`` the covariance is diagonal.

    The path is that of :meth:`fit`: so many epochs of its own from the trained weights on, of cross-entropy on the
    images as they are, so that it fits any trained network. Batch statistics are recomputed on the same images for each
    sample, since those of the path belong to no sample's weights.

    Raises:
        ValueError: if a number is out of range, or there are fewer weights along the path than deviations to keep.

    References:
        Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning" (arXiv 1902.02476), equation 1 and
        algorithm 1; the mean: Izmailov et al. (arXiv 1803.05407).
    """

    epochs: int = 20
    """Of the path."""
    learning_rate: float = 0.01
    """Constant: as high as in the middle of training, so that the path does not stand still."""
    momentum: float = 0.9
    """Decay of the running sum of gradients."""
    weight_decay: float = 5e-4
    """Coefficient of the L2 penalty's gradient, for all weights."""
    batch_size: int = 128
    """Examples per step, and per batch whose statistics are averaged."""
    collects_per_epoch: int = 1
    """How often weights are added to the moments, once an epoch in the paper."""
    rank: int = 20
    """K."""
    scale: float = 0.5
    """s."""
    num_samples: int = 30
    """Networks drawn, whose probabilities are averaged."""

    def __post_init__(self):
        for name in ("epochs", "learning_rate", "batch_size", "collects_per_epoch", "num_samples"):
            check_positive(name, getattr(self, name))
        for name in ("momentum", "weight_decay", "rank", "scale"):
            check_non_negative(name, getattr(self, name))
        if self.rank == 1:
            raise ValueError("Expected rank = 0 or rank > 1, got rank=1: one deviation has no covariance.")
        if self.rank > self.epochs * self.collects_per_epoch:
            raise ValueError(
                f"Expected rank <= epochs * collects_per_epoch = {self.epochs * self.collects_per_epoch}, "
                f"got rank={self.rank!r}."
            )

    def fit(self, key: PRNGKey, model: Model, variables: PyTree, batches: Iterable[Batch]) -> SwagPosterior:
        """Walks the path, draws the samples and recomputes their batch statistics.

        Args:
            key: of the order of the examples, of dropout and of the samples.
            model: a network with ``apply(variables, images, train=...) -> Output``.
            variables: trained; ``{"params": …, …}``.
            batches: the training data, as they are; all of them are held in the memory of the host.

        Raises:
            ValueError: if there are fewer examples than make a batch.
            FloatingPointError: if the path diverges.
        """
        path_key, sample_key, norm_key = jax.random.split(key, 3)
        examples = _examples(batches)
        moments, state = self._walk(path_key, model, variables, *examples)
        members = []
        for sample in jax.random.split(sample_key, self.num_samples):
            drawn = {"params": _sample(sample, moments, self.scale), **state}
            parts = (images for images, _ in _in_order(None, *examples, self.batch_size))
            # One after the other: programs in which several devices wait for each other must not run side by side.
            members.append(jax.block_until_ready(recomputed_norms(norm_key, model, drawn, parts)))
        return SwagPosterior(moments, Ensemble(predictor(model, _stack(members))), self.scale)

    def moments(self, key: PRNGKey, model: Model, variables: PyTree, batches: Iterable[Batch]) -> Moments:
        """Of the weights along the path alone; arguments and errors are those of :meth:`fit`."""
        return self._walk(key, model, variables, *_examples(batches))[0]

    def _walk(
        self, key: PRNGKey, model: Model, variables: PyTree, images: np.ndarray, labels: np.ndarray, like: Array
    ) -> tuple[Moments, PyTree]:
        """The moments, and the batch statistics at the end of the path."""
        steps = len(images) // self.batch_size
        if steps == 0:
            raise ValueError(f"Expected batch_size <= {len(images)} examples to fit, got batch_size={self.batch_size}.")
        if self.collects_per_epoch > steps:
            raise ValueError(
                f"Expected collects_per_epoch <= {steps} steps of an epoch, got {self.collects_per_epoch!r}."
            )
        order_key, step_key = jax.random.split(key)
        params, state = _parts(variables)
        optimiser_state, moments = _start(self, params)
        ends = {steps * (i + 1) // self.collects_per_epoch - 1 for i in range(self.collects_per_epoch)}
        for epoch in range(self.epochs):
            parts = _in_order(jax.random.fold_in(order_key, epoch), images, labels, like, self.batch_size)
            for step, part in enumerate(parts):
                own_key = jax.random.fold_in(step_key, epoch * steps + step)
                params, state, optimiser_state = _step(self, model, own_key, params, state, optimiser_state, *part)
                if step in ends:
                    moments = _add(moments, params)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(moments.mean))):
            raise FloatingPointError(
                f"Weights along the path are not finite; lower the learning rate, learning_rate={self.learning_rate!r}."
            )
        return moments, state

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay), optax.sgd(self.learning_rate, self.momentum or None)
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SwagPosterior(MemberPredictor):
    """What :meth:`Swag.fit` finds; a pytree, so that a stack of them is vmapped as networks are."""

    moments: Moments
    """Of the weights."""
    ensemble: Ensemble
    """The networks drawn, with batch statistics of their own."""
    scale: float = dataclasses.field(metadata={"static": True})
    """s."""

    def sample(self, key: PRNGKey) -> PyTree:
        """Other weights; batch statistics for them are those of :func:`~robust_jax.posteriors.recomputed_norms`."""
        return sample_weights(key, self.moments, scale=self.scale)

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each drawn network."""
        return self.ensemble.members(images)


def sample_weights(key: PRNGKey, moments: Moments, *, scale: float = 0.5) -> PyTree:
    r"""Weights from the normal distribution of :class:`Swag`.

    .. math:: \bar\theta + \sqrt{s}\, \Sigma_\mathrm{diag}^{1/2} z_1 + \sqrt{\frac{s}{K - 1}}\, D z_2, \quad
        z_1, z_2 \sim \mathcal N(0, I)

    Args:
        key: random key.
        moments: along the path.
        scale: s.
    """
    low_rank_key, key = jax.random.split(key)
    leaves, treedef = jax.tree.flatten(moments.mean)
    squares, deviations = jax.tree.leaves(moments.squares), jax.tree.leaves(moments.deviations)
    rank = deviations[0].shape[0]
    together = jax.random.normal(low_rank_key, (rank,)) * jnp.sqrt(scale / max(rank - 1, 1))
    drawn = []
    for i, (mean, square, deviation) in enumerate(zip(leaves, squares, deviations, strict=True)):
        noise = jax.random.normal(jax.random.fold_in(key, i), mean.shape)
        own = jnp.sqrt(scale * square / moments.count) * noise
        drawn.append(mean + own + jnp.tensordot(together, deviation, axes=1, precision="highest"))
    return jax.tree.unflatten(treedef, drawn)


_add = jax.jit(Moments.add)
_stack = jax.jit(stack)
_sample = jax.jit(lambda key, moments, scale: sample_weights(key, moments, scale=scale))


@partial(jax.jit, static_argnums=0)
def _start(swag: Swag, params: PyTree) -> tuple[PyTree, Moments]:
    return swag._optimiser().init(params), Moments.start(params, swag.rank)


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    swag: Swag,
    model: Model,
    key: PRNGKey,
    params: PyTree,
    state: PyTree,
    optimiser_state: PyTree,
    images: Images,
    labels: Labels,
) -> tuple[PyTree, PyTree, PyTree]:
    def loss(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
        variables = {"params": params, **state}
        rngs, mutable = {"dropout": key}, list(state)
        output, new = apply_network(model, variables, images, train=True, rngs=rngs, mutable=mutable)
        return -jnp.mean(log_likelihoods("categorical", 1.0, output.prediction, labels)), dict(new)

    gradient, new = jax.grad(loss, has_aux=True)(params)
    updates, optimiser_state = swag._optimiser().update(gradient, optimiser_state, params)
    return optax.apply_updates(params, updates), new, optimiser_state


def _parts(variables: PyTree) -> tuple[PyTree, PyTree]:
    return variables["params"], {name: value for name, value in variables.items() if name != "params"}


def _examples(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray, Array]:
    """Images and labels, without padding, and an array that lies on devices as batches do."""
    images, labels = [], []
    for batch in batches:
        mask = np.asarray(batch.mask)
        images.append(np.asarray(batch.image)[mask])
        labels.append(np.asarray(batch.label)[mask])
    if not images:
        raise ValueError("Expected data to fit, got none.")
    return np.concatenate(images), np.concatenate(labels), batch.image


def _split(part: PyTree, like: Array) -> PyTree:
    """Over as many devices, where it divides."""
    part = jax.tree.map(jnp.asarray, part)
    divides = jax.tree.leaves(part)[0].shape[0] % like.sharding.num_devices == 0
    return split_beside(part, like) if divides else part


def _in_order(
    key: PRNGKey | None, images: np.ndarray, labels: np.ndarray, like: Array, batch_size: int
) -> Iterator[tuple[Images, Labels]]:
    """Batches in a random order; without a key in that of the data, but each from the whole of them."""
    size = len(images) // batch_size
    if key is None:
        parts = ((images[i::size][:batch_size], labels[i::size][:batch_size]) for i in range(size))
    else:
        order = np.asarray(jax.random.permutation(key, len(images)))[: size * batch_size]
        parts = ((images[rows], labels[rows]) for rows in order.reshape(size, batch_size))
    return (_split(part, like) for part in parts)
