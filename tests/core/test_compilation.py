"""What programs are compiled with."""

import os

import pytest

from robust_jax.core.compilation import compile_deterministically


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "--xla_gpu_deterministic_ops=true"),
        ("--xla_dump_to=there", "--xla_dump_to=there --xla_gpu_deterministic_ops=true"),
        ("--xla_gpu_deterministic_ops=false", "--xla_gpu_deterministic_ops=false"),
    ],
)
def test_what_the_flags_say_already_stays(given, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    if given is None:
        monkeypatch.delenv("XLA_FLAGS")
    else:
        monkeypatch.setenv("XLA_FLAGS", given)
    compile_deterministically()
    compile_deterministically()
    assert os.environ["XLA_FLAGS"] == expected
