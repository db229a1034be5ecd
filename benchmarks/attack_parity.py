"""Attacks, ours against foolbox and the published Auto-PGD in PyTorch: the same perturbations, step for step?

The published ResNet-20 for CIFAR-10 is attacked by PGD of 40 steps, from the image, beside foolbox, and by Auto-PGD of
100 steps beside the original, from starts that ours draws. The largest differences are told, and the L1 projections and
DLR losses of both are compared on random input.

Both compute in float64 unless ``--precision float32``. In float32 the entries of a gradient that are nearly zero have
signs that depend on the order of sums, which differs between libraries, and a wrong sign moves a pixel by two steps;
forty steps later a few examples are elsewhere. That says nothing of the attacks, which float64 compares alone. For the
same reason the others are given the cross-entropy as ours computes it, without cancellation: PyTorch's derivative has
the probability less one, of which three digits of float64 are left where the network is sure to thirteen. And in L2
they divide a gradient by its norm, as ours do; foolbox takes norms below 1e-12 as that, and the original adds as much,
which four gradients of 200 are small enough to feel.

Needs PyTorch, ``pip install foolbox`` and the package autoattack from the repository of Croce & Hein.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from attacks import MEAN, STD, first_images, torch_resnet
from attacks import Arguments as AttackArguments
from jax.tree_util import Partial
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from robust_jax import attacks, models, weights
from robust_jax.attacks.gradient.ascent import check_windows, random_start
from robust_jax.mathematics.projections import project_l1_box
from robust_jax.types import Images


@dataclasses.dataclass(frozen=True)
class Arguments:
    weights: Path = AttackArguments.weights
    """Of the ResNet-20."""
    data_dir: Path = AttackArguments.data_dir
    """Where the data sets of TFDS are."""
    num_images: int = 200
    """How many images, the first of the lossless training set."""
    eps_linf: float = 1 / 255
    """Radius in Linf."""
    eps_l2: float = 0.1
    """Radius in L2."""
    precision: Literal["float64", "float32"] = "float64"
    """Of both."""
    only: tuple[str, ...] = ("pgd", "apgd", "parts")
    """Which comparisons."""
    norms: tuple[str, ...] = ("Linf", "L2")
    """Of the attacks."""


def main(arguments: Arguments) -> None:
    import torch

    double = arguments.precision == "float64"
    jax.config.update("jax_enable_x64", double)
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    data = AttackArguments(num_images=arguments.num_images, data_dir=arguments.data_dir)
    images, labels = first_images(data)
    images = jnp.asarray(images, float)
    weights = {name: jnp.asarray(array, float) for name, array in load_file(arguments.weights).items()}
    difference = jnp.abs(resnet20(weights, images) - library_logits(arguments.weights, images))
    predictor = Partial(resnet20, weights)
    network = torch_resnet(arguments.weights).to(torch.get_default_dtype())
    radii = {"Linf": arguments.eps_linf, "L2": arguments.eps_l2}

    table = Table(title=f"largest differences to the other, {len(images)} images, {arguments.precision}")
    for column in ("what", "difference", "flags equal %", "broken %"):
        table.add_column(column, justify="left" if column == "what" else "right")
    console = Console()

    def tell(what: str, *figures: str) -> None:
        table.add_row(what, *figures)
        console.log(what, *figures)

    tell("logits of this file's network and the library's", f"{jnp.max(difference):.1e}", "", "")
    if "pgd" in arguments.only:
        for norm in arguments.norms:
            tell(f"PGD-40 {norm}, images", *compare_pgd(network, predictor, images, labels, norm, radii[norm]))
    if "apgd" in arguments.only:
        cases = (("Linf", "cross_entropy"), ("Linf", "dlr"), ("L2", "cross_entropy"))
        for norm, loss in (case for case in cases if case[0] in arguments.norms):
            row = compare_apgd(network, predictor, images, labels, norm, loss, radii[norm])
            tell(f"APGD-100 {norm} {loss}, losses", *row)
    if "parts" in arguments.only:
        for row in (compare_l1_projection(), compare_dlr(), compare_step_checks()):
            tell(*row)
    console.print(table)


def resnet20(weights: dict[str, Array], images: Images) -> Float[Array, "b 10"]:
    """The network of ``torch_resnet`` in plain JAX, in the precision of its weights; the library's is float32."""

    def conv_norm(x: Array, place: str, number: int, stride: int) -> Array:
        x = conv3x3(x, weights[f"{place}conv{number}.weight"], stride)
        scale, shift, mean, variance = (
            weights[f"{place}bn{number}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / jnp.sqrt(variance + 1e-5)
        return x * scale[None, None, None] + (shift - mean * scale)[None, None, None]

    mean, std = (jnp.asarray(numbers, float)[None, None, None] for numbers in (MEAN, STD))
    x = jax.nn.relu(conv_norm((images - mean) / std, "", 1, 1))
    for layer in (1, 2, 3):
        for block in range(3):
            place, stride = f"layer{layer}.{block}.", 2 if layer > 1 and block == 0 else 1
            y = conv_norm(jax.nn.relu(conv_norm(x, place, 1, stride)), place, 2, 1)
            more = (y.shape[-1] - x.shape[-1]) // 2
            x = jax.nn.relu(y + jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (more, more))))
    return jnp.mean(x, axis=(1, 2)) @ weights["linear.weight"].T + weights["linear.bias"][None]


def conv3x3(x: Float[Array, "b h w i"], kernel: Float[Array, "o i 3 3"], stride: int) -> Float[Array, "b y x o"]:
    """In float64 as a product of matrices: XLA's convolutions in it are hundreds of times slower on a CPU."""
    if x.dtype == jnp.float32:
        layout = ("NHWC", "OIHW", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=layout)
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [x[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    matrix = jnp.transpose(kernel, (2, 3, 1, 0)).reshape(-1, len(kernel))
    return jnp.concatenate(taps, axis=-1) @ matrix


def library_logits(path: Path, images: Images) -> Float[Array, "b 10"]:
    network = models.cifar_resnet(20, mean=MEAN, std=STD)
    params, state = weights.load_weights(path, network, (32, 32, 3))
    return models.predictor(network, {"params": params, **state})(images)


def compare_pgd(network, predictor, images, labels, norm: str, eps: float) -> tuple[str, str, str]:
    import eagerpy
    import foolbox
    import torch

    steps, share = 40, 2.5 / 40
    kind = foolbox.attacks.LinfPGD if norm == "Linf" else foolbox.attacks.L2PGD

    class Other(kind):
        def get_loss_fn(self, model, labels):
            return lambda images: eagerpy.astensor(torch_cross_entropy(model(images).raw, labels.raw).sum())

        def normalize(self, gradients, *, x, bounds):
            # Its own takes norms below 1e-12 as 1e-12, and so goes less far where the network is that sure.
            if norm == "Linf":
                return super().normalize(gradients, x=x, bounds=bounds)
            return eagerpy.astensor(unit_vectors(gradients.raw))

    other = Other(rel_stepsize=share, steps=steps, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, found, flags = other(model, as_torch(images), torch.tensor(np.asarray(labels)).long(), epsilons=eps)
    # Both project on the ball and then into the box, and return the last iterate.
    threat = norm if norm == "Linf" else attacks.L2(exact=False)
    ours = attacks.PGD(norm=threat, eps=eps, steps=steps, relative_step=share, start="zero", keep="last")
    result = ours.run(keys_of(images), predictor, images, labels)
    difference = np.abs(result.images - as_numpy(found))
    equal = np.asarray(result.success) == flags.numpy()
    return f"{difference.max():.1e}", f"{100 * equal.mean():.1f}", f"{100 * float(result.success.mean()):.1f}"


def compare_apgd(network, predictor, images, labels, norm: str, loss: str, eps: float) -> tuple[str, str, str]:
    import torch
    from autoattack.autopgd_base import APGDAttack

    keys = keys_of(images)
    result = attacks.APGD(norm=norm, eps=eps, loss=loss).run(keys, predictor, images, labels)
    first_run = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
    start = random_start(first_run, norm, images, jnp.full(len(images), eps, images.dtype))
    other = APGDAttack(network, norm=norm, eps=eps, loss="dlr", device="cpu")
    if loss == "cross_entropy":
        # The one loss of its that is a method, and so can be another.
        other.dlr_loss = torch_cross_entropy
    x, y = as_torch(images), torch.tensor(np.asarray(labels)).long()
    if norm == "L2":
        # As of foolbox: its own adds 1e-12 to a norm.
        other.normalize = unit_vectors
    other.init_hyperparam(x)
    _, correct, best_loss, broken_images = other.attack_single_run(x, y, x_init=as_torch(start))
    # Of what is broken the original returns the last image that was, and the loss it tells is that of another.
    of_broken = attacks.LOSSES[loss](predictor(as_numpy(broken_images)), labels)
    expected = np.where(correct.bool().numpy(), best_loss.numpy(), of_broken)
    difference = np.abs(result.loss - expected)
    equal = np.asarray(result.success) != correct.bool().numpy()
    return f"{difference.max():.1e}", f"{100 * equal.mean():.1f}", f"{100 * float(result.success.mean()):.1f}"


def compare_l1_projection() -> tuple[str, str, str, str]:
    """The original's works in float32 alone, and its sums are of that precision."""
    import torch
    from autoattack.autopgd_base import L1_projection

    rng = np.random.default_rng(0)
    images, moves = rng.random((100, 32, 32, 3)), rng.normal(size=(100, 32, 32, 3))
    largest, default = 0.0, torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    for eps in (1.0, 4.0, 12.0, 60.0):
        ours = jax.vmap(lambda move, image, eps=eps: project_l1_box(move, image, eps))(
            jnp.asarray(moves, float), jnp.asarray(images, float)
        )
        x, move = as_torch(images), as_torch(moves)
        largest = max(largest, float(np.abs(ours - as_numpy(move + L1_projection(x, move, eps))).max()))
    torch.set_default_dtype(default)
    return "L1 projection, entries", f"{largest:.1e}", "", ""


def compare_dlr() -> tuple[str, str, str, str]:
    import torch
    from autoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1000, 10)) * rng.uniform(0.1, 10, size=(1000, 1))
    labels = rng.integers(0, 10, 1000)
    targets = (labels + rng.integers(1, 10, 1000)) % 10
    untargeted, targeted = APGDAttack(None, eps=1.0), APGDAttack_targeted(None, eps=1.0)
    targeted.y_target = torch.tensor(targets)
    pairs = (
        (attacks.dlr(jnp.asarray(logits, float), labels), untargeted.dlr_loss),
        (attacks.targeted_dlr(jnp.asarray(logits, float), labels, targets), targeted.dlr_loss_targeted),
    )
    others = [loss(torch.tensor(logits), torch.tensor(labels)).numpy() for _, loss in pairs]
    largest = max(np.abs(np.asarray(ours) - other).max() for (ours, _), other in zip(pairs, others, strict=True))
    return "DLR and targeted DLR, losses", f"{largest:.1e}", "", ""


def compare_step_checks() -> tuple[str, str, str, str]:
    """After which of 100 steps the published code looks back, and on how many."""
    published = {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    windows = check_windows(100)
    ours = {int(step): int(windows[step]) for step in np.flatnonzero(windows)}
    return "checks of step sizes, of 100 steps", "0" if ours == published else f"{ours}", "", ""


def torch_cross_entropy(logits, labels):
    """As :func:`robust_jax.attacks.cross_entropy`."""
    import torch

    own = logits.gather(1, labels[:, None])[:, 0]
    of_label = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    others = torch.logsumexp(logits.masked_fill(of_label, -float("inf")), dim=1)
    return torch.logaddexp(others - own, torch.zeros_like(own))


def unit_vectors(gradients):
    return gradients / gradients.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def keys_of(images: Images) -> Array:
    return jax.random.split(jax.random.key(0), len(images))


def as_torch(images):
    import torch

    # A copy that torch may write to, in its default precision.
    return torch.tensor(np.array(images).transpose(0, 3, 1, 2).copy(), dtype=torch.get_default_dtype())


def as_numpy(images) -> np.ndarray:
    return images.detach().numpy().transpose(0, 2, 3, 1)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
