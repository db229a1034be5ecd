"""Packaging of robust_jax."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "robust_jax" / "__init__.py").read_text().splitlines()
    if "__version__" in line
)

COLAB = ["ipykernel", "nbclient", "nbformat"]

setup(
    name="robust_jax",
    version=VERSION,
    description="Robust image classification in JAX: train, corrupt, evaluate, report.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["robust_jax", "robust_jax.*"]),
    package_data={"robust_jax": ["py.typed"], "robust_jax.augmentations": ["*.safetensors"]},
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "diffrax>=0.7.2",
        "blackjax>=1.7.1",
        "jaxtyping>=0.3",
        "numpy>=2.0",
        "scipy>=1.14",
        "scikit-learn>=1.5",
        "tensorflow-datasets>=4.9.10",
        "array-record>=0.8",
        "grain>=0.2.18",
        "pillow>=11",
        "safetensors>=0.5",
        "tyro>=1.0.17",
        "rich>=13",
        "typeguard>=4.4",
        "matplotlib>=3.9",
        "tensorboardX>=2.6",
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
        "prepare": ["tensorflow"],
        "colab": COLAB,
        # What benchmarks/corruptions.py compares with; imagecorruptions imports pkg_resources.
        "bench": ["imagecorruptions>=1.1.2", "opencv-python-headless>=4.6", "scikit-image>=0.24", "setuptools<81"],
        # basedpyright is pyright with its Node.js in the wheel: the package pyright downloads one on its first run.
        "test": ["pytest>=8", "pytest-xdist>=3", "ruff>=0.9", "basedpyright>=1.31", "chex>=0.1.92", *COLAB],
    },
    entry_points={"console_scripts": ["robust-jax = robust_jax.__main__:main"]},
)
