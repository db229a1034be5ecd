"""The vocabulary of the package: array aliases, the values that travel between rooms, and their protocols.

Images are ``float32`` in [0, 1], channels last. ``image`` is one of them, ``images`` a batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from jaxtyping import Array, Bool, Float, Int, Key, PyTree

Image = Float[Array, "h w c"]
Images = Float[Array, "b h w c"]
Labels = Int[Array, "b"] | Float[Array, "b k"]
PRNGKey = Key[Array, ""]
PRNGKeys = Key[Array, "b"]

LogitsFn = Callable[[Images], Float[Array, "b k"]]
"""A classifier of any kind: images in [0, 1] to logits. The one meeting point of the package."""

Scale = Literal["smoke", "small", "paper"]
"""How large an experiment is: seconds on embedded data, minutes on two cores, or as published."""


class Batch(NamedTuple):
    """A batch of examples. ``mask`` is False on padding; ``id`` is unique within a split."""

    image: Images
    label: Labels
    mask: Bool[Array, "b"]
    id: Int[Array, "b"]


class Output(NamedTuple):
    """What a model returns: ``logits``, the ``features`` its last layer read, and named extras such as costs."""

    logits: Float[Array, "b k"]
    features: Float[Array, "b f"]
    aux: Mapping[str, Array] = {}


class Aux(NamedTuple):
    """What an objective returns beside the loss: the model's new state and scalars to be logged."""

    model_state: PyTree
    scalars: Mapping[str, Float[Array, ""]]


class Corruption(Protocol):
    """Label-preserving damage to one image, indexed by a traced severity."""

    def __call__(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image: ...


class Augmentation(Protocol):
    """A random training transform of one image."""

    def __call__(self, key: PRNGKey, image: Image) -> Image: ...


class Mixer(Protocol):
    """A random training transform that couples the examples of a batch; it may return soft labels."""

    def __call__(self, key: PRNGKey, batch: Batch) -> Batch: ...


HiddenFn = Callable[[str, Array], Array]
"""``(name, maps) -> maps``: changes what a submodule of a network returns, by the submodule's name."""


class Forward(Protocol):
    """A network as a pure function of its parameters; the running state it read is closed over.

    In training, examples marked as ``noise`` have batch statistics of their own, and what the network's submodules
    return passes through ``hidden_fn``.
    """

    def __call__(
        self,
        params: PyTree,
        images: Images,
        *,
        key: PRNGKey | None = None,
        train: bool = True,
        noise: Bool[Array, "b"] | None = None,
        hidden_fn: HiddenFn | None = None,
    ) -> tuple[Output, PyTree]: ...


class Objective(Protocol):
    """A training loss."""

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch
    ) -> tuple[Float[Array, ""], Aux]: ...


@dataclasses.dataclass(frozen=True)
class Row:
    """One result: ``value`` of ``metric`` on ``case`` of ``suite``, with a confidence interval [low, high].

    ``severity`` is whatever orders the cases of a curve (a severity, or the radius eps); ``count`` the number of
    examples; ``seed`` that of the run.
    """

    run: str
    model: str
    dataset: str
    suite: str
    case: str
    severity: float | None
    metric: str
    value: float
    low: float | None
    high: float | None
    count: int
    seed: int


class Evaluation(Protocol):
    """One split prepared for evaluation: every example once, in masked batches on the device."""

    name: str
    class_names: tuple[str, ...]
    num_classes: int
    num_examples: int
    image_shape: tuple[int, int, int]

    def batches(self) -> Iterator[Batch]: ...


class Suite(Protocol):
    """An evaluation recipe."""

    def rows(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, **kwargs: Any) -> Iterator[Row]: ...


@dataclasses.dataclass(frozen=True)
class Paper:
    """The publication an experiment file reproduces, and the figure it claims."""

    title: str
    claim: str
    arxiv: str | None = None
