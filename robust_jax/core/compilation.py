"""How programs are compiled: once, and to the same bits every time."""

import functools
import os
from pathlib import Path

import jax


def compile_deterministically() -> None:
    """Has a GPU's programs give the same bits in every run; call it before anything is computed.

    XLA by itself times several kernels and keeps the fastest, which in another run may be another one, and some of them
    add numbers in any order: on an H200 no two of four trainings of a small ResNet from one seed had equal weights. Two
    had with this, and an experiment run twice had equal results. Programs compile faster then (a training step of a
    WRN-28-4 in 8 s in place of 23), but for what adds to places by index, such as the gradient of a max pooling, XLA
    may compute a loop over the places.

    Sets ``XLA_FLAGS``; what those say of it already stays.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


@functools.cache
def cpu_training_options() -> dict[str, str]:
    """Return the ``compiler_options`` of ``jax.jit`` for a training step on a CPU; ``{}`` where XLA knows none.

    XLA 0.10 hands convolutions to YNNPACK, which is slow at the gradients of kernels: 3×3 from 16 to 16 channels on 128
    images of 32×32 takes 104 ms of one core, XLA's other routine 22 ms. The option turns YNNPACK off in that program.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def cache_dir() -> Path:
    """The user's cache folder: ``$XDG_CACHE_HOME/robust_jax``, by default ``~/.cache/robust_jax``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robust_jax"


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that only the first run of a program compiles it.

    ``JAX_COMPILATION_CACHE_DIR``, where set, takes precedence; ``JAX_ENABLE_COMPILATION_CACHE=0`` turns it off.
    A cache folder that cannot be written costs time only: JAX then compiles afresh.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
