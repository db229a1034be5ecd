"""How far three kinds of network can be trusted when the picture moves, with and without moved training images.

A convolutional network, a vision transformer and an MLP-Mixer, each trained on images as they are (but for flips), on
crops of images padded by 4 pixels, and by 8. Tested under translations of up to 16 pixels in eight directions, black
moving in: error, and how often the prediction stays.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Translation robustness of architectures",
    claim="accuracy against the shift, of convolutional networks, transformers and mixers under several recipes",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Each network first without moved images."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(networks: dict[str, Any], paddings: tuple[int, ...], **settings: Any) -> dict[str, train.Experiment]:
    return {
        f"{name}_{f'crop{padding}' if padding else 'still'}": train.Experiment(
            model=model,
            augmentation=augmentations.Chain(
                (augmentations.RandomCrop(padding=padding), augmentations.HorizontalFlip())
            ),
            **settings,
        )
        for name, model in networks.items()
        for padding in paddings
    }


def evaluation(max_shift: int) -> dict[str, Any]:
    return {"clean": suites.Clean(), "translation": suites.Translation(max_shift=max_shift)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    networks = {
        "mixer": models.MlpMixer(patch_size=2, width=32, depth=2, token_width=16, channel_width=64),
        "conv": models.ResNet(stage_sizes=(1,), width=8),
        "vit": models.ViT(patch_size=2, width=32, depth=2, heads=2),
    }
    return runs(
        networks,
        (0, 1),
        data=data.Digits(),
        optimiser=train.AdamW(learning_rate=3e-3),
        epochs=4,
        batch_size=64,
        suites=evaluation(3),
    )


def small() -> dict[str, train.Experiment]:
    """6,000 images of CIFAR-10 as JPEG, on two cores, and networks that learn something of them in half a minute."""
    networks = {
        "conv": models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
        "vit": models.ViT(patch_size=4, width=64, depth=3, heads=4, pooling="mean"),
        "mixer": models.MlpMixer(patch_size=4, width=64, depth=3, token_width=64, channel_width=128),
    }
    return runs(
        networks,
        (0, 4, 8),
        data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=6000, num_test=300),
        optimiser=train.AdamW(learning_rate=2e-3, weight_decay=0.05),
        schedule=train.Cosine(warmup_epochs=0.5),
        epochs=4,
        batch_size=100,
        suites=evaluation(16),
    )


def paper() -> dict[str, train.Experiment]:
    """CIFAR-10, 200 epochs; computed in bfloat16."""
    networks = {
        "conv": models.resnet18(),
        "vit": models.ViT(size="S", patch_size=4),
        "mixer": models.MlpMixer(size="S", patch_size=4),
    }
    return runs(
        networks,
        (0, 4, 8),
        data=data.Tfds("cifar10"),
        optimiser=train.AdamW(learning_rate=1e-3, weight_decay=0.05),
        schedule=train.Cosine(warmup_epochs=10),
        precision="bfloat16",
        epochs=200,
        batch_size=512,
        suites=evaluation(16),
    )
