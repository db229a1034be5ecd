"""Isotonic regression: probabilities recalibrated by monotone functions fitted on held-out examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree
from sklearn import isotonic

from robust_jax import models
from robust_jax.core.checks import check_positive
from robust_jax.posteriors.held_out import check_every_class, held_out_logits
from robust_jax.predictors import Predictor, as_predictor
from robust_jax.types import Batch, Images, LogitsFn, Model, PRNGKey


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Isotonic(Predictor):
    """A classifier whose probabilities pass through a monotone function of each class; a pytree.

    There are as many knots as held-out examples, the last one repeated, so that members of an ensemble can be stacked.
    """

    base: LogitsFn
    """The predictor."""
    knots: Float[Array, "k n"]
    """Probabilities, ascending."""
    values: Float[Array, "k n"]
    """What becomes of them; between knots linearly, beyond the ends as at them."""

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the recalibrated log-probabilities."""
        probs = jax.nn.softmax(self.base(images))
        return jax.nn.log_softmax(jnp.log(jax.vmap(jnp.interp, (1, 0, 0), 1)(probs, self.knots, self.values)))


@dataclasses.dataclass(frozen=True)
class IsotonicRegression:
    r"""Of each class against the rest, the non-decreasing function of its probability that is nearest to the labels.

    With f of each class fitted by least squares on held-out examples, to values in [ε, 1], probabilities become

    .. math:: q_c = \frac{f_c(p_c)}{\sum_l f_l(p_l)}

    Scikit-learn fits f; predictions interpolate between its thresholds and are pure JAX. Unlike a temperature it may
    change which class is predicted, and needs many examples.

    Raises:
        ValueError: if ``floor`` is not positive.

    References:
        Zadrozny & Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates" (2002).
    """

    floor: float | None = None
    """ε; what never happened among n examples is not impossible. None is 1 / (n + 2)."""

    fit_splits: ClassVar[tuple[str, ...]] = ("validation",)

    def __post_init__(self):
        if self.floor is not None:
            check_positive("floor", self.floor)

    def fit(self, key: PRNGKey | None, model: Model, variables: PyTree, batches: Iterable[Batch]) -> Isotonic:
        """The functions of a network.

        Args:
            key: not used.
            model: a network, with ``apply(variables, images, train=False) -> Output``.
            variables: trained.
            batches: examples that it has not been trained on.

        Raises:
            ValueError: as :meth:`recalibrate`.
        """
        del key
        return self.recalibrate(models.predictor(model, variables), batches)

    def recalibrate(self, predictor: LogitsFn, batches: Iterable[Batch]) -> Isotonic:
        """The functions of any classifier, such as a whole ensemble.

        Raises:
            ValueError: if there are no examples, or none of some class, or logits are not finite.
        """
        logits, labels = held_out_logits(predictor, batches)
        size, num_classes = logits.shape
        check_every_class(labels, num_classes)
        # As predictions compute them, to the last bit: knots are such probabilities.
        probs = np.asarray(jax.nn.softmax(jnp.asarray(logits)), np.float64)
        floor = 1 / (size + 2) if self.floor is None else self.floor
        fitted = [_fit_class(probs[:, c], labels == c, floor) for c in range(num_classes)]
        knots, values = (jnp.asarray(np.stack(part), jnp.float32) for part in zip(*fitted, strict=True))
        return Isotonic(as_predictor(predictor), knots, values)


def _fit_class(
    probs: Float[np.ndarray, "n"], is_class: Bool[np.ndarray, "n"], floor: float
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    found = isotonic.IsotonicRegression(y_min=floor, y_max=1).fit(probs, is_class)
    missing = len(probs) - len(found.X_thresholds_)
    pad = lambda part: np.pad(part, (0, missing), mode="edge")  # noqa: E731
    return pad(found.X_thresholds_), pad(found.y_thresholds_)
