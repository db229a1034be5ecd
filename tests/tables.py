"""Which cases of a table ``make test`` runs; the others are left to ``make test-long``.

One of each kind is run, unless its programs are among the largest and another kind has the same mechanism.
"""

from collections.abc import Collection, Iterable, Mapping

import pytest


def first_of_its_class(components: Mapping[str, object], slow: Collection[type] = ()) -> list:
    """Cases named after the keys; the second and later components of a class are long, and those of a slow class."""
    seen = set(slow)
    assert seen <= {type(component) for component in components.values()}
    cases = []
    for name, component in components.items():
        marks = [pytest.mark.long] if type(component) in seen else []
        seen.add(type(component))
        cases.append(pytest.param(component, marks=marks, id=name))
    return cases


def long_unless(quick: Collection, values: Iterable) -> list:
    """Cases of one value each, long unless it is among the quick ones."""
    values = list(values)
    assert set(quick) <= set(values), f"{sorted(set(map(str, quick)) - set(map(str, values)))} are no cases"
    return [pytest.param(value, marks=[] if value in quick else [pytest.mark.long]) for value in values]


def long_if(slow: Collection, values: Iterable) -> list:
    """Cases of one value each, long if it is among the slow ones."""
    values = list(values)
    assert set(slow) <= set(values), f"{sorted(set(map(str, slow)) - set(map(str, values)))} are no cases"
    return [pytest.param(value, marks=[pytest.mark.long] if value in slow else []) for value in values]
