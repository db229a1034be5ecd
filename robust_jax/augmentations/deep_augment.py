"""DeepAugment: images through networks from image to image, whose weights and activations are distorted."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction, check_positive
from robust_jax.core.files import write_atomically
from robust_jax.core.loops import iterate, one_by_one
from robust_jax.core.random_words import random_normal
from robust_jax.types import Image, Images, PRNGKey

WEIGHTS = Path(__file__).with_name("deep_augment.safetensors")
"""The networks that come with the package: :func:`fit`, in 3,000 steps, on the quarters of 20,000 images of
CIFAR-10 as JPEG."""
WIDTHS = {"denoiser": (3, 16, 16, 16, 16, 3), "autoencoder": (12, 24, 6, 24, 12)}
"""Channels before, between and after the convolutions of each network."""
NOISE = 55 / 255
"""The greatest standard deviation that the denoiser learns to remove."""
SHARE = 0.2
"""Of the channels, where a distortion is of some of them."""
GREATEST_SCALE = 4.0
"""How much contrast is restored at most."""

Maps = Float[Array, "*b h w c"]


class Layer(NamedTuple):
    """A convolution of 3×3."""

    kernel: Float[Array | np.ndarray, "3 3 i o"]
    bias: Float[Array | np.ndarray, "o"]


Network = tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class DeepAugment:
    """An image through one of two small networks, distorted anew for every image.

    One network removes noise; the other codes an image in half as many numbers and decodes it. Each of their
    convolutions but the last may have its weights distorted: channels set to zero, negated or scaled, noise added,
    directions exchanged, kernels averaged; and each activation between them may be another one. The result is given the
    image's mean of each channel and standard deviation of all, and clipped to [0, 1].

    The paper distorts two large networks, EDSR for super-resolution and a compressive autoencoder, with more ways of
    distortion, once before training; here they are small enough to run within the training step. To restore mean and
    contrast is ours: without it small networks leave many an image in one colour.

    Raises:
        ValueError: if a network is unknown (the nearest is named), there is none, a number out of range, or the file
            does not hold the networks; when run, if the image has neither one channel nor three.
        FileNotFoundError: if there is no such file.

    References:
        Hendrycks et al., "The Many Faces of Robustness" (arXiv 2006.16241), section 4 and appendix.
    """

    networks: tuple[Literal["denoiser", "autoencoder"], ...] = ("denoiser", "autoencoder")
    """What is drawn from."""
    probability: float = 0.4
    """Of each convolution and each activation, to be distorted; at 0 the network is as it was trained."""
    weights: str | None = None
    """A file written by :func:`write`; by default the networks that come with the package."""

    def __post_init__(self):
        if not self.networks:
            raise ValueError("Expected one network or more, got networks=().")
        for name in self.networks:
            check_choice("network", name, WIDTHS)
        check_fraction("probability", self.probability)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        if image.shape[-1] not in (1, 3):
            raise ValueError(f"Expected an image of 1 or 3 channels, got shape {image.shape}.")
        found = read(WEIGHTS if self.weights is None else self.weights)
        branches = [functools.partial(_distorted, name, found[name], self.probability) for name in self.networks]

        def apply(choice: Array, key_data: Array, image: Image) -> Image:
            return jax.lax.switch(choice, branches, jax.random.wrap_key_data(key_data), image)

        choice_key, key = jax.random.split(key)
        choice = jax.random.randint(choice_key, (), 0, len(branches))
        return one_by_one(apply)(choice, jax.random.key_data(key), image)


def _distorted(name: str, network: Network, probability: float, key: PRNGKey, image: Image) -> Image:
    """The image through a distorted network."""
    weights_key, chance_key, kind_key = jax.random.split(key, 3)
    *layers, last = network
    keys = jax.random.split(weights_key, len(layers))
    layers = [distort(key, layer, probability) for key, layer in zip(keys, layers, strict=True)]
    kinds = jax.random.randint(kind_key, (len(layers),), 0, len(ACTIVATIONS))
    kinds = jnp.where(jax.random.bernoulli(chance_key, probability, kinds.shape), kinds, 0)
    colour = jnp.broadcast_to(image, (*image.shape[:2], 3))
    result = translate(name, (*layers, last), colour, kinds)
    result = jnp.clip(_restored(result, colour), 0, 1)
    return result if image.shape[-1] == 3 else jnp.mean(result, axis=-1, keepdims=True)


def _restored(result: Image, image: Image) -> Image:
    """The means and the contrast of an image, those of the four pixels of a square each for itself.

    Else an autoencoder, which writes four pixels at a time, would leave a pattern of theirs and little else.
    """
    squares, wanted = _to_squares(result), _to_squares(image)
    mean, own = (jnp.mean(x, axis=(0, 1), keepdims=True) for x in (wanted, squares))
    spread, own_spread = (jnp.sqrt(jnp.mean(x**2)) for x in (wanted - mean, squares - own))
    scale = jnp.minimum(spread / jnp.maximum(own_spread, 1e-6), GREATEST_SCALE)
    return _from_squares(mean + scale * (squares - own), image.shape)


def translate(name: str, network: Network, image: Maps, activations: Array | None = None) -> Maps:
    """An image, or several, through a network.

    Args:
        name: of the network, which says what its convolutions read and write.
        network: its convolutions.
        image: [0, 1], three channels.
        activations: numbers of :data:`ACTIVATIONS` between the convolutions; ReLU by default.
    """
    if name == "denoiser":
        return image - _convolutions(network, image, activations)
    return _from_squares(_convolutions(network, _to_squares(image), activations), image.shape)


def _convolutions(network: Network, x: Maps, activations: Array | None) -> Maps:
    for i, layer in enumerate(network):
        x = convolve(x, layer)
        if i < len(network) - 1:
            x = jax.nn.relu(x) if activations is None else jax.lax.switch(activations[i], ACTIVATIONS, x)
    return x


def convolve(x: Maps, layer: Layer) -> Maps:
    """A convolution whose border pixels go on outwards."""
    height, width = x.shape[-3:-1]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    kernel = jnp.asarray(layer.kernel)
    with jax.default_matmul_precision("float32"):
        if x.ndim == 4:
            layout = ("NHWC", "HWIO", "NHWC")
            convolved = jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=layout)
        else:
            # Weights are the image's own, and would make a grouped convolution of a batch, which XLA computes slowly.
            convolved = sum(padded[i : i + height, j : j + width] @ kernel[i, j] for i, j in np.ndindex(3, 3))
    return convolved + jnp.expand_dims(layer.bias, tuple(range(x.ndim - 1)))


def _to_squares(x: Maps) -> Maps:
    """Squares of 2×2 pixels as one with four times the channels; the border goes on where a side is odd."""
    height, width = x.shape[-3:-1]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    *batch, height, width, channels = x.shape
    squares = x.reshape(*batch, height // 2, 2, width // 2, 2, channels)
    return jnp.moveaxis(squares, -4, -3).reshape(*batch, height // 2, width // 2, 4 * channels)


def _from_squares(x: Maps, shape: tuple[int, ...]) -> Maps:
    """The inverse, for maps of a shape."""
    *batch, height, width, channels = x.shape
    squares = x.reshape(*batch, height, width, 2, 2, channels // 4)
    pixels = jnp.moveaxis(squares, -4, -3).reshape(*batch, 2 * height, 2 * width, channels // 4)
    return pixels[..., : shape[-3], : shape[-2], :]


def distort(key: PRNGKey, layer: Layer, probability: float) -> Layer:
    """A layer with its weights distorted in one of the ways of :data:`DISTORTIONS`, or as it is."""
    chance_key, kind_key, key = jax.random.split(key, 3)
    kind = jax.random.randint(kind_key, (), 0, len(DISTORTIONS))
    distorted = jax.lax.switch(kind, DISTORTIONS, key, jnp.asarray(layer.kernel))
    return layer._replace(kernel=jnp.where(jax.random.bernoulli(chance_key, probability), distorted, layer.kernel))


Kernel = Float[Array, "3 3 i o"]


def _zero(key: PRNGKey, kernel: Kernel) -> Kernel:
    return jnp.where(_some_channels(key, kernel), 0, kernel)


def _negate(key: PRNGKey, kernel: Kernel) -> Kernel:
    return jnp.where(_some_channels(key, kernel), -kernel, kernel)


def _scale(key: PRNGKey, kernel: Kernel) -> Kernel:
    return kernel * jnp.exp(0.5 * random_normal(key, (1, 1, 1, kernel.shape[-1])))


def _add_noise(key: PRNGKey, kernel: Kernel) -> Kernel:
    return kernel + 0.5 * jnp.std(kernel) * random_normal(key, kernel.shape)


def _exchange(key: PRNGKey, kernel: Kernel) -> Kernel:
    """Across for down, or one of them the other way round."""
    ways = jnp.stack([jnp.swapaxes(kernel, 0, 1), kernel[::-1], kernel[:, ::-1]])
    return ways[jax.random.randint(key, (), 0, len(ways))]


def _average(key: PRNGKey, kernel: Kernel) -> Kernel:
    """A share of each kernel by its mean."""
    share = jax.random.uniform(key)
    return (1 - share) * kernel + share * jnp.mean(kernel, axis=(0, 1), keepdims=True)


def _some_channels(key: PRNGKey, kernel: Kernel) -> Array:
    return jax.random.bernoulli(key, SHARE, (1, 1, 1, kernel.shape[-1]))


DISTORTIONS: tuple[Callable[[PRNGKey, Kernel], Kernel], ...] = (
    _zero,
    _negate,
    _scale,
    _add_noise,
    _exchange,
    _average,
)
"""Of the weights."""
ACTIVATIONS: tuple[Callable[[Maps], Maps], ...] = (
    jax.nn.relu,
    jax.nn.gelu,
    jnp.abs,
    jnp.tanh,
    lambda x: jax.nn.leaky_relu(x, 0.3),
)
"""Between convolutions; networks are trained with the first."""


def fit(
    key: PRNGKey, images: Images, *, num_steps: int = 3000, batch_size: int = 64, learning_rate: float = 3e-3
) -> dict[str, Network]:
    """Trains both networks by the mean squared error, with Adam on a cosine schedule.

    Args:
        key: of the weights, the order of the images and the noise.
        images: [n, h, w, 3], to learn from.
        num_steps: how long.
        batch_size: images of each step.
        learning_rate: the greatest.

    Raises:
        ValueError: if a number is not positive, or the images have not three channels.
    """
    for label, value in (("num_steps", num_steps), ("batch_size", batch_size), ("learning_rate", learning_rate)):
        check_positive(label, value)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"Expected images of shape [n, h, w, 3], got shape {images.shape}.")
    found = {}
    for name, network_key in zip(WIDTHS, jax.random.split(key, len(WIDTHS)), strict=True):
        init_key, step_key = jax.random.split(network_key)
        network = _init(init_key, WIDTHS[name])
        settings = (name, batch_size, learning_rate, num_steps)
        state = _optimiser(learning_rate, num_steps).init(network)
        found[name], _ = iterate(_step, settings, range(num_steps), (network, state), step_key, images)
    return found


def _init(key: PRNGKey, widths: tuple[int, ...]) -> Network:
    keys = jax.random.split(key, len(widths) - 1)
    initialise = jax.nn.initializers.he_normal()
    shapes = itertools.pairwise(widths)
    return tuple(
        Layer(initialise(key, (3, 3, before, after)), jnp.zeros(after))
        for key, (before, after) in zip(keys, shapes, strict=True)
    )


def _optimiser(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))


def _step(
    settings: tuple[str, int, float, int],
    i: Array,
    carry: tuple[Network, optax.OptState],
    key: PRNGKey,
    images: Images,
) -> tuple[Network, optax.OptState]:
    name, batch_size, learning_rate, num_steps = settings
    network, state = carry
    batch_key, sigma_key, noise_key = jax.random.split(jax.random.fold_in(key, i), 3)
    batch = images[jax.random.randint(batch_key, (batch_size,), 0, len(images))]
    sigma = NOISE * jax.random.uniform(sigma_key, (batch_size, 1, 1, 1))
    noisy = batch + sigma * random_normal(noise_key, batch.shape) if name == "denoiser" else batch
    error = lambda network: jnp.mean((translate(name, network, noisy) - batch) ** 2)  # noqa: E731
    updates, state = _optimiser(learning_rate, num_steps).update(jax.grad(error)(network), state)
    return jax.tree.map(jnp.add, network, updates), state


def write(path: str | Path, networks: Mapping[str, Network]) -> None:
    """Keeps networks in a ``.safetensors`` file."""
    arrays = {
        f"{name}.{i}.{field}": np.asarray(value, np.float32)
        for name, network in networks.items()
        for i, layer in enumerate(network)
        for field, value in layer._asdict().items()
    }
    write_atomically(Path(path), safetensors.numpy.save(arrays))


@functools.lru_cache
def read(path: str | Path) -> dict[str, Network]:
    """The networks of a file that :func:`write` made; a file is read once.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file, if it is damaged or does not hold both networks.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no file of weights: {error}") from error
    networks = {}
    for name, widths in WIDTHS.items():
        layers = []
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            fields = {field: arrays[key] for field in Layer._fields if (key := f"{name}.{i}.{field}") in arrays}
            shapes = {field: array.shape for field, array in fields.items()}
            if shapes != {"kernel": (3, 3, before, after), "bias": (after,)}:
                raise ValueError(f"{path} does not hold layer {i} of the {name}: got shapes {shapes}.")
            layers.append(Layer(**fields))
        networks[name] = tuple(layers)
    return networks
