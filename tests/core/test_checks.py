"""Errors of values that are out of range or no numbers."""

import pytest

from robust_jax import attacks, train
from robust_jax.core.checks import check_fraction, check_non_negative, check_positive


@pytest.mark.parametrize("value", ["ten", None, (1.0,)], ids=repr)
@pytest.mark.parametrize(
    ("check", "expected"),
    [(check_positive, "> 0"), (check_non_negative, ">= 0"), (check_fraction, r"in \[0, 1\]")],
    ids=["positive", "non_negative", "fraction"],
)
def test_what_is_no_number_is_named(check, expected, value):
    with pytest.raises(TypeError, match=f"Expected eps as a number {expected}, got eps="):
        check("eps", value)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_positive, (1, 0.1, float("inf")), (0, -1.0, float("nan"))),
        (check_non_negative, (0, 0.1, float("inf")), (-1e-9, float("nan"))),
        (check_fraction, (0, 0.5, 1), (-0.1, 1.1, float("nan"))),
    ],
    ids=["positive", "non_negative", "fraction"],
)
def test_ranges(check, good, bad):
    for value in good:
        check("eps", value)
    for value in bad:
        with pytest.raises(ValueError, match=r"Expected eps .* got eps="):
            check("eps", value)


def test_components_name_the_field_when_they_are_built():
    with pytest.raises(TypeError, match="Expected steps as a number > 0, got steps='ten'"):
        attacks.PGD(steps="ten")
    with pytest.raises(TypeError, match="Expected learning_rate as a number > 0, got learning_rate=None"):
        train.Sgd(learning_rate=None)
