"""Pairs mixed in a hidden layer, with noise, and consistency between views (manifold mixup, NoisyMix)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_fraction, check_non_negative, check_positive
from robust_jax.objectives.cross_entropy import (
    classification_metrics,
    cross_entropy,
    masked_mean,
    plain_loss,
    smooth_labels,
)
from robust_jax.objectives.jensen_shannon import jensen_shannon
from robust_jax.objectives.views import augmented_views
from robust_jax.types import Augmentation, Batch, Context, Forward, LayerCall, Loss, Objective, PRNGKey

INPUT = "input"


@dataclasses.dataclass(frozen=True)
class NoisyMix(Objective):
    r"""Cross-entropy on pairs that are mixed, and made noisy, at the input or after a layer drawn for the step.

    .. math:: (1 + \sigma_m \beta_m u) \odot (\lambda g_i + (1 - \lambda) g_j) + \sigma_a \beta_a z, \quad
        \lambda \sim \mathrm{Beta}(\alpha, \alpha), \; \beta \sim \mathrm{Beta}(2, 5), \; u \sim U(-1, 1), \;
        z \sim \mathcal N(0, 1)

    of what the layer returns, g, with a share of the entries of either noise left out. Labels are mixed alike. With an
    augmentation, two views of each image are mixed with the same partners and shares, with two and three times the
    additive noise, and the Jensen–Shannon divergence between the three predictions is added.

    Without noise and augmentation it is manifold mixup (Verma et al., arXiv 1806.05236).

    Raises:
        ValueError: if a number is out of range; when run, if the network has no submodule of a name.

    References:
        Lim, Erichson, Utrera, Xu & Mahoney (arXiv 2202.01263); noise and numbers are those of the published code.
    """

    layers: tuple[str, ...] = ()
    """Names of the network's submodules after which pairs may be mixed, beside its input; each alike."""
    alpha: float = 1.0
    """α."""
    additive: float = 0.5
    """σ_a, in units of a hidden layer; of the input, times ``input_std``."""
    multiplicative: float = 0.5
    """σ_m."""
    sparsity: float = 0.65
    """Share of the entries that a noise leaves as they are."""
    input_std: float = 0.5
    """By which the additive noise of images is multiplied; the published code normalises them by it."""
    augmentation: Augmentation | None = None
    """Of the two views; None leaves them out."""
    weight: float = 12.0
    """Of the divergence."""
    label_smoothing: float = 0.0
    """Share of probability spread evenly over the classes."""

    def __post_init__(self):
        check_positive("alpha", self.alpha)
        for name in ("additive", "multiplicative", "input_std", "weight"):
            check_non_negative(name, getattr(self, name))
        for name in ("sparsity", "label_smoothing"):
            check_fraction(name, getattr(self, name))

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        view_key, partner_key, share_key, layer_key, noise_key, key = jax.random.split(key, 6)
        changes = [] if self.augmentation is None else [self.augmentation] * 2
        views = [batch.image, *augmented_views(view_key, changes, batch)]
        partner = jax.random.permutation(partner_key, len(batch.id))
        share = jax.random.beta(share_key, self.alpha, self.alpha)
        chosen = jax.random.randint(layer_key, (), 0, 1 + len(self.layers))
        met = []

        def mix(name: str, maps: Array) -> Array:
            met.append(name)
            number = (INPUT, *self.layers).index(name)
            parts = maps.reshape(len(views), len(batch.id), *maps.shape[1:])
            mixed = share * parts + (1 - share) * parts[:, partner]
            scale = self.input_std if name == INPUT else 1.0
            noisy = self.add_noise(jax.random.fold_in(noise_key, number), mixed, scale)
            return jnp.where(chosen == number, noisy.reshape(maps.shape).astype(maps.dtype), maps)

        def mix_after(layer: LayerCall, *args: Array, **kwargs: PyTree) -> Array:
            maps = layer.call(*args, **kwargs)
            chosen_layer = len(layer.path) == 1 and layer.path[0] in self.layers
            return mix(layer.path[0], maps) if chosen_layer else maps

        images = mix(INPUT, jnp.concatenate(views))
        output, model_state = forward(params, images, key=key, train=True, interceptors=(mix_after,))
        for name in self.layers:
            if name not in met:
                raise ValueError(f"Expected layers to be names of the network's submodules, which have no {name!r}.")
        logits = output.prediction.reshape(len(views), *batch.mask.shape, -1)
        targets = smooth_labels(batch.label, logits.shape[-1], smoothing=self.label_smoothing)
        targets = share * targets + (1 - share) * targets[partner]
        mask = batch.mask & batch.mask[partner]
        loss = fit = cross_entropy(logits[0], targets)
        metrics = classification_metrics(logits[0], targets, batch._replace(mask=mask), output)
        metrics["cross_entropy"] = masked_mean(fit, mask)
        if self.augmentation is not None:
            divergence = jensen_shannon(logits)
            metrics["jensen_shannon"] = masked_mean(divergence, mask)
            loss = fit + self.weight * divergence
        # The mean over unpadded examples becomes that over pairs of unpadded examples.
        weights = mask * (jnp.sum(batch.mask) / jnp.maximum(jnp.sum(mask), 1))
        return plain_loss(loss * weights, model_state, state, metrics)

    def add_noise(self, key: PRNGKey, maps: Float[Array, "v b ..."], scale: float = 1.0) -> Float[Array, "v b ..."]:
        """Maps of views under noise, the additive one of the second and third view two and three times as strong."""
        level_key, u_key, z_key, u_sparse_key, z_sparse_key = jax.random.split(key, 5)
        column = (-1,) + (1,) * (maps.ndim - 1)
        by_factor, by_sum = jax.random.beta(level_key, 2.0, 5.0, (2, len(maps)))
        keep = lambda key: jax.random.uniform(key, maps.shape) >= self.sparsity  # noqa: E731
        factor = self.multiplicative * by_factor.reshape(column) * jax.random.uniform(u_key, maps.shape, minval=-1.0)
        growing = 1.0 + jnp.arange(len(maps)).reshape(column)
        summand = scale * self.additive * growing * by_sum.reshape(column) * jax.random.normal(z_key, maps.shape)
        return (1 + keep(u_sparse_key) * factor) * maps + keep(z_sparse_key) * summand
