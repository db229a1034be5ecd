"""Networks, in Linen, as components; and the pure functions by which the rest of the package runs them."""

from robust_jax.models.apply import (
    forward_fn,
    init,
    num_parameters,
    output_shapes,
    predictor,
)
from robust_jax.models.aug_net import AugNet
from robust_jax.models.dncnn import DnCNN
from robust_jax.models.equalised import Equalised
from robust_jax.models.film_ensemble import FilmEnsemble
from robust_jax.models.frequency_dropout import FrequencyDropout, FrequencyDropped
from robust_jax.models.interception import intercepted
from robust_jax.models.mlp import Mlp
from robust_jax.models.mlp_mixer import MlpMixer
from robust_jax.models.ode_net import ODENet
from robust_jax.models.resnet import ResNet, cifar_resnet, resnet18, resnet34, resnet50
from robust_jax.models.smoothing import smooth
from robust_jax.models.taps import LinearLayer, apply_tapped, linear_layers
from robust_jax.models.unet import PixelLogistic, UNet
from robust_jax.models.vit import ViT
from robust_jax.models.wide_resnet import WideResNet

__all__ = [
    "AugNet",
    "DnCNN",
    "Equalised",
    "FilmEnsemble",
    "FrequencyDropout",
    "FrequencyDropped",
    "LinearLayer",
    "Mlp",
    "MlpMixer",
    "ODENet",
    "PixelLogistic",
    "ResNet",
    "UNet",
    "ViT",
    "WideResNet",
    "apply_tapped",
    "cifar_resnet",
    "forward_fn",
    "init",
    "intercepted",
    "linear_layers",
    "num_parameters",
    "output_shapes",
    "predictor",
    "resnet18",
    "resnet34",
    "resnet50",
    "smooth",
]
