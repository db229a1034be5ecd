"""Which cases of a table ``make test`` runs: one of each kind. The others are left to ``make test-long``."""

from collections.abc import Collection, Iterable, Mapping

import pytest


def first_of_its_class(components: Mapping[str, object]) -> list:
    """Cases named after the keys; the second and later components of a class are long."""
    seen: set[type] = set()
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
