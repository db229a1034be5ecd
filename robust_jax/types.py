"""The vocabulary of the package: array aliases, the values that travel between rooms, and their protocols.

Images are ``float32`` in [0, 1], channels last. ``image`` is one of them, ``images`` a batch. A row of d numbers, as of
a table, is an image of one pixel with d channels, [1, 1, d], in any range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

Image = Float[Array, "h w c"]
Images = Float[Array, "b h w c"]
Labels = Int[Array, "b"] | Float[Array, "b k"]
LabelMap = Int[Array, "h w"]
LabelMaps = Int[Array, "b h w"]
PRNGKey = Key[Array, ""]
PRNGKeys = Key[Array, "b"]

IGNORED = -1
"""Label of a pixel without a class, which no loss or measure counts."""

LogitsFn = Callable[[Images], Float[Array, "b k"]]
"""A classifier of any kind: images in [0, 1] to logits. The one meeting point of the package."""


class Shaped(Protocol):
    """An array, or its shape and dtype alone."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


Scale = Literal["smoke", "small", "paper"]
"""How large an experiment is: seconds on embedded data, minutes on two cores, or as published."""


class Batch(NamedTuple):
    """A batch of examples.

    ``label`` holds classes ``int[b]``, class probabilities ``float[b, k]``, label maps ``int[b, h, w]`` with
    :data:`IGNORED` where a pixel has no class, targets ``float[b, d]``, or clean images ``float[b, h, w, c]``. ``mask``
    is False on padding; ``id`` is unique within a split. ``extras`` holds further streams and annotations by name, such
    as the ``"unlabelled"`` batch of semi-supervised training.
    """

    image: Images
    label: PyTree
    mask: Bool[Array, "b"]
    id: Int[Array, "b"]
    extras: Mapping[str, PyTree] = {}


class Output(NamedTuple):
    """Output of a model.

    ``prediction`` is what the task reads: logits ``[b, k]`` or ``[b, h, w, k]``, a mean with its variance, an image.
    ``features`` are the inputs of the last layer; ``extras`` holds named arrays such as costs per example.
    """

    prediction: Array
    features: Float[Array, "b f"]
    extras: Mapping[str, Array] = {}


class Loss(NamedTuple):
    """Value of an objective.

    The training step minimises the mean of ``per_example`` over the examples that are not padding, plus ``penalty``.
    ``model_state`` and ``state`` are the network's and the objective's own state after the step; ``metrics`` are
    logged.
    """

    per_example: Float[Array, "b"]
    penalty: Float[Array, ""]
    model_state: PyTree
    state: PyTree
    metrics: Mapping[str, Float[Array, ""]]


class Context(NamedTuple):
    """Position in training. ``progress`` is the fraction of all steps taken so far, in [0, 1)."""

    step: Int[Array, ""]
    epoch: Int[Array, ""]
    progress: Float[Array, ""]


class Corruption(Protocol):
    """Label-preserving damage to one image, indexed by a traced severity."""

    def __call__(self, key: PRNGKey, image: Image, severity: Float[Array, ""], /) -> Image: ...


class Augmentation(Protocol):
    """A random training transform of one image."""

    def __call__(self, key: PRNGKey, image: Image, /) -> Image: ...


class Mixer(Protocol):
    """A random training transform that couples the examples of a batch; it may return soft labels."""

    def __call__(self, key: PRNGKey, batch: Batch, /) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of a layer inside a network, as an :data:`Interceptor` sees it."""

    path: tuple[str, ...]
    """Names from the network down to the layer, such as ``("stage1_block2", "conv1")``; ``()`` is the network."""
    kind: str
    """Class name of the layer, such as ``"BatchNorm"``."""
    call: Callable[..., Array]
    """The layer itself; takes the arguments of the call."""
    variables: Mapping[str, Mapping[str, Array]]
    """Arrays of the layer by collection: ``"params"``, and ``"batch_stats"`` of a batch norm."""
    settings: Mapping[str, Any]
    """Fields of the layer, such as ``epsilon``."""


Interceptor = Callable[..., Array]
"""``(layer, *args, **kwargs) -> output``: takes the place of every call of a layer.

It returns ``layer.call(*args, **kwargs)`` to leave a layer alone, and is differentiated through.
"""


class Model(Protocol):
    """A network apart from its variables, such as a Linen module; hashable, and compared by value."""

    @property
    def apply(self) -> Callable[..., PyTree]:
        """``apply(variables, images, train=False) -> Output``.

        In training it also takes ``rngs={"dropout": key}``, and with ``mutable=[names]`` returns the new values of
        these collections beside the output.
        """
        ...


class Module(Model, Protocol):
    """A network that can be initialised, such as a Linen module."""

    @property
    def init(self) -> Callable[..., PyTree]:
        """``init({"params": key}, images) -> variables``."""
        ...

    @property
    def init_with_output(self) -> Callable[..., tuple[PyTree, PyTree]]:
        """``init_with_output({"params": key}, images) -> (output, variables)``."""
        ...

    @property
    def clone(self) -> Callable[..., Self]:
        """``clone(dtype=dtype)``: the same network at another precision."""
        ...


class Forward(Protocol):
    """A network as a pure function of its parameters.

    The running state that it reads is closed over, or ``state`` in its place: the state that an earlier pass returned.
    """

    def __call__(
        self,
        params: PyTree,
        images: Images,
        *,
        key: PRNGKey | None = None,
        train: bool = True,
        interceptors: Sequence[Interceptor] = (),
        state: PyTree | None = None,
    ) -> tuple[Output, PyTree]: ...


class Objective(Protocol):
    """A training loss, in the parameters of a network and perhaps in parameters of its own.

    ``params`` is what the forward function takes; an objective with parameters of its own reads them from
    ``params.objective``, see :class:`Params`.
    """

    streams: ClassVar[tuple[str, ...]] = ()
    """Names of the extra streams that the objective reads from ``batch.extras``."""
    learns_from_passes: ClassVar[bool] = False
    """Whether :meth:`before_epoch` is called."""

    def init(self, key: PRNGKey, params: PyTree, example: Batch) -> tuple[PyTree, PyTree]:
        """Return the objective's own parameters and its own state; both ``()`` for most."""
        del key, params, example
        return (), ()

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context, /
    ) -> Loss: ...

    def before_epoch(
        self, key: PRNGKey, network: Callable[[Images], Array], batches: Iterable[Batch], state: PyTree
    ) -> PyTree:
        """Return the objective's own state for an epoch, learned from a pass over the whole training set.

        Called before every epoch, the first included, where ``learns_from_passes`` is True. The state keeps its
        structure and shapes.

        Args:
            key: random key of the epoch.
            network: the network with its current weights in evaluation mode, a pytree; ``network.output(images)``
                also has features.
            batches: all training examples in the order of the data set, without augmentation; the mask is False on
                the padding of the last batch.
            state: the objective's own state so far.
        """
        del key, network, batches
        return state


class Task(Protocol):
    """Meaning of a prediction and its label."""

    def check(self, prediction: Shaped, label: Shaped) -> None:
        """Raise ``ValueError``, with shapes, unless predictions and labels fit the task."""
        ...

    def log_likelihood(self, prediction: Array, label: PyTree) -> Float[Array, "b"]:
        """Log-likelihood of each label, in nats."""
        ...

    def measures(self, prediction: Array, label: PyTree) -> dict[str, Float[Array, "b"]]:
        """Return measures of each example, by name."""
        ...


class Params(NamedTuple):
    """Parameters that training optimises: the network's and the objective's own."""

    network: PyTree
    objective: PyTree


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

    @property
    def name(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def num_examples(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def target_scale(self) -> tuple[float, ...]:
        """Unit of each standardised real target in the data's units; () where labels are classes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of the examples, equal for equal examples in equal order, whatever the batches."""
        ...

    def batches(self) -> Iterator[Batch]: ...


@dataclasses.dataclass(frozen=True)
class Paper:
    """The publication an experiment file reproduces, and the figure it claims."""

    title: str
    claim: str
    arxiv: str | None = None
