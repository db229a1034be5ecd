"""What every perturbation sequence shares: frames, presets, the crop, eight bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.corruptions.base import COMPATS, PRESETS, Table, check_image, preset_scale, preset_table
from robust_jax.images.quantise import quantise
from robust_jax.types import Image, PRNGKey

Frame = int | Int[Array, ""]
State = PyTree

NUM_FRAMES = {"imagenet224": 31, "cifar32": 31, "tiny64": 31}


@dataclasses.dataclass(frozen=True)
class PerturbationSequence:
    """A published sequence of slightly different images: ``sequence(key, image, frame)``, images in [0, 1].

    The frame is traced: one compiled program serves all. The frames of one key belong together, as those of one video.
    Where frames are wanted in turn, ``state = start(key, image)``, then ``show(state, 0)``, and for every further
    frame ``state = advance(state, frame)`` and ``show(state, frame)``, shares what they have in common; so does
    :meth:`frames`.

    The original stores ImageNet's and Tiny ImageNet's frames as H.264 videos, whose losses are not reproduced.

    Raises:
        ValueError: if a field is unknown, the image too small or not [h, w, c] with 1 or 3 channels, the crop larger
            than the image, or the frame (where it is known) not one of them.
        TypeError: if the image is not of floats.
    """

    preset: str = "auto"
    """Whose constants: imagenet224, cifar32, tiny64; scaled, those of imagenet224 with lengths scaled to the shorter
    side of the frames; auto, by their shorter side: up to 48 cifar32, up to 96 tiny64, 224 imagenet224, else scaled."""
    compat: str = "original"
    """``original`` reproduces the published code, quirks and eight bits included; ``clean`` repairs what the docstring
    names, and does not quantise."""
    crop: int | None = None
    """Side of the middle square that is shown; None shows everything. ImageNet-P reduces the shorter side to 256 and
    shows 224; what moves, turns or shrinks then brings in what lay outside. Without it black comes in, as on CIFAR."""

    variable: ClassVar[str]
    """What of the imaging process it intervenes on, one of ``VARIABLES``."""
    is_noise: ClassVar[bool] = False
    """Whether frames are independent draws around the first, with which they are to be compared, not in turn."""
    whole: ClassVar[bool] = False
    """Whether the image is cropped after it has been perturbed, not before."""
    rounding: ClassVar[str] = "trunc_u8"
    """How the original comes to eight bits, see :func:`robust_jax.images.quantise.quantise`."""
    lengths: ClassVar[Mapping[str, int]] = NUM_FRAMES
    min_size: ClassVar[int] = 1

    def __post_init__(self):
        check_choice("preset", self.preset, PRESETS)
        check_choice("compat", self.compat, COMPATS)
        if self.crop is not None:
            check_positive("crop", self.crop)

    def __call__(self, key: PRNGKey, image: Image, frame: Frame) -> Image:
        length = self.num_frames(image.shape)
        if not isinstance(frame, Tracer) and not 0 <= int(frame) < length:
            raise ValueError(f"Expected frame in [0, {length}), got frame={frame!r}.")
        frame = jnp.asarray(frame, jnp.int32)
        state = self.start(key, image)
        if type(self).advance is not PerturbationSequence.advance:
            state = jax.lax.fori_loop(
                1, length, lambda i, state: _select(i <= frame, self.advance(state, i), state), state
            )
        return self.show(state, frame)

    def frames(self, key: PRNGKey, image: Image) -> Float[Array, "frames h w c"]:
        """All frames."""

        def step(state, frame):
            shown = self.show(state, frame)
            return self.advance(state, frame + 1), shown

        return jax.lax.scan(step, self.start(key, image), jnp.arange(self.num_frames(image.shape)))[1]

    def num_frames(self, shape: Sequence[int]) -> int:
        """How many frames an image of ``shape`` [h, w, c] has; frame indices start at 0."""
        return self.table(self.lengths, shape)

    def start(self, key: PRNGKey, image: Image) -> State:
        """What frames are made of, at frame 0."""
        check_image(image, type(self).__name__, self.min_size)
        shape = self.shown_shape(image.shape)
        if not self.whole and shape != image.shape[:2]:
            (top, left), (height, width) = self.offset(image.shape), shape
            image = image[top : top + height, left : left + width]
        return self.prepare(key, image)

    def prepare(self, key: PRNGKey, image: Image) -> State:
        """The same, of an image already cropped if it is to be."""
        raise NotImplementedError

    def advance(self, state: State, frame: Frame) -> State:
        """What ``frame`` is made of, from that of the frame before."""
        del frame
        return state

    def show(self, state: State, frame: Frame) -> Image:
        """A frame, from what it is made of."""
        return quantise(self.picture(state, jnp.asarray(frame, jnp.int32)), "float" if self.clean else self.rounding)

    def picture(self, state: State, frame: Int[Array, ""]) -> Image:
        """The same, not yet clipped and quantised."""
        raise NotImplementedError

    @property
    def clean(self) -> bool:
        """Whether quirks are repaired."""
        return self.compat == "clean"

    def table(self, tables: Mapping[str, Table], shape: Sequence[int]) -> Table:
        """Of tables by preset (imagenet224, cifar32, tiny64) the one in force for images of a shape."""
        return preset_table(tables, self.preset, self.shown_shape(shape))

    def scale(self, shape: Sequence[int]) -> float:
        """What lengths in pixels are multiplied by: 1, or with the preset scaled, the frames' shorter side over 224."""
        return preset_scale(self.preset, self.shown_shape(shape))

    def shown_shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of the frames of an image of a shape."""
        if self.crop is None:
            return shape[0], shape[1]
        if self.crop > min(shape[:2]):
            raise ValueError(f"Expected an image of at least crop={self.crop} pixels, got {shape[0]}x{shape[1]}.")
        return self.crop, self.crop

    def offset(self, shape: Sequence[int]) -> tuple[int, int]:
        """Row and column of the image at which frames begin."""
        height, width = self.shown_shape(shape)
        return round((shape[0] - height) / 2), round((shape[1] - width) / 2)


def _select(condition: Array, first: State, second: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)
