"""The persistent cache of compiled programs."""

import os
from pathlib import Path

import jax


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
