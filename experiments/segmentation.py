"""Segmentation by a U-Net, clean and under common corruptions (Ronneberger et al., 2015).

The class of every pixel is predicted by logistic regression on its colour, by logistic regression on the window around
it, and by a U-Net. All share data and augmentation; label maps move with their images. The regressions take more passes
over the data, enough for their optimum. Intersection over union is that of the whole test set, clean and under the
common corruptions of ImageNet-C (Hendrycks & Dietterich, 2019) but elastic transform, which moves pixels away from
their labels. Higher is better, so the table has its negative.

At `small` scale the images are photographs of the retina with its vessels, 480×480 pixels, 20 to train on in patches
and 8 to test on; corruptions have severity 1, since thin vessels do not survive the others. A prediction of background
everywhere has a mean IoU of 46.7 %.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
    arxiv="1505.04597",
    claim="IoU of 0.9203 on PhC-U373 and 0.7756 on DIC-HeLa, where the second best have 0.83 and 0.46",
)

# Mean and standard deviation of each channel of the training photographs.
COLOURS = {"mean": (0.46, 0.17, 0.03), "std": (0.35, 0.14, 0.04)}


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Logistic regression on a pixel's colour first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(
    num_classes: int,
    *,
    window: int,
    widths: tuple[int, ...],
    linear: dict[str, Any],
    colours: dict[str, tuple[float, ...]],
    **settings: Any,
) -> dict[str, train.Experiment]:
    """Logistic regression on a pixel and on a window, with settings of their own, and a U-Net."""
    unet = train.Experiment(model=models.UNet(num_classes, widths=widths, **colours), **settings)
    regression = dataclasses.replace(unet, **linear)
    return {
        "pixel": dataclasses.replace(regression, model=models.PixelLogistic(num_classes, **colours)),
        "window": dataclasses.replace(regression, model=models.PixelLogistic(num_classes, window=window, **colours)),
        "unet": unet,
    }


def adam(learning_rate: float) -> train.AdamW:
    """Adam without weight decay."""
    return train.AdamW(learning_rate=learning_rate, weight_decay=0.0, clip_norm=None)


def smoke() -> dict[str, train.Experiment]:
    """Discs and squares of 32×32 pixels, drawn: seconds a run."""
    return runs(
        3,
        window=5,
        widths=(8, 16),
        linear={"optimiser": adam(0.1)},
        colours={"mean": (0.5,), "std": (0.25,)},
        data=data.Shapes(num_train=128, num_test=16),
        augmentation=augmentations.HorizontalFlip(),
        optimiser=adam(0.01),
        epochs=8,
        batch_size=8,
        suites={"segmentation": suites.SegmentationSuite(("gaussian_noise", "contrast"), severities=(3,))},
    )


def vessels(**fields: Any) -> data.MaskFolder:
    """28 photographs of the retina with the first observer's vessels; the last 8 are the test set, as published."""
    return data.MaskFolder(
        "vessels",
        class_names=("background", "vessel"),
        values=(0, 255),
        images="*.jpg",
        masks="{stem}_1stHO.png",
        num_test=8,
        **fields,
    )


def moved() -> augmentations.Chain:
    """Mirror images, rotations and shifts."""
    return augmentations.Chain(
        (augmentations.HorizontalFlip(), augmentations.RotateTranslate(shift=0.05, degrees=15.0, border="reflect"))
    )


def small() -> dict[str, train.Experiment]:
    """Photographs of 480×480 pixels in patches of 96×96, on two cores."""
    return runs(
        2,
        window=15,
        widths=(16, 32, 64),
        linear={"optimiser": adam(0.01), "epochs": 15},
        colours=COLOURS,
        data=vessels(image_size=480, patch=96),
        augmentation=moved(),
        optimiser=adam(0.003),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=6,
        batch_size=5,
        suites={"segmentation": suites.SegmentationSuite(severities=(1,))},
        execution=train.Execution(eval_batch_size=4),
    )


def paper() -> dict[str, train.Experiment]:
    """The network of the paper at 960×960 pixels, with padded convolutions and batch norm, by Adam."""
    return runs(
        2,
        window=31,
        widths=(64, 128, 256, 512, 1024),
        linear={"optimiser": adam(0.01)},
        colours=COLOURS,
        data=vessels(image_size=960, patch=240),
        augmentation=moved(),
        optimiser=adam(0.001),
        schedule=train.Cosine(warmup_epochs=1),
        epochs=100,
        batch_size=16,
        suites={"segmentation": suites.SegmentationSuite()},
        execution=train.Execution(eval_batch_size=4),
    )
