"""The table of endpoints, beside everything that has to keep step with it: a row that was forgotten somewhere fails here.

That every row has an example of a call and of its answer is said beside those examples, and what the simulated exchange answers in
`test_backpack_sandbox_endpoints.py`.
"""

from __future__ import annotations

from typing import get_args

import pytest

import backpack_proto
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_runtime.rest_methods import RestMethods

# Histories are named by what they list.
METHODS = {"fill_history": "fills"}

BY_CALL_ONLY: dict[str, str] = {}
"""Endpoints that only `client.call(name)` reaches, each with its reason: there is none."""


def has_a_method(endpoint: str) -> bool:
    return any(hasattr(RestMethods, name) for name in (f"get_{endpoint}", METHODS.get(endpoint, endpoint)))


def test_every_endpoint_is_a_method_of_the_client_or_known_to_be_reached_by_call_alone() -> None:
    assert {name for name in ENDPOINTS if not has_a_method(name)} == set(BY_CALL_ONLY)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_type_of_an_answer_is_public(name: str) -> None:
    for kind in (ENDPOINTS[name].result, *get_args(ENDPOINTS[name].result)):
        if isinstance(kind, type) and kind.__module__.startswith("backpack_proto."):
            assert getattr(backpack_proto, kind.__name__) is kind
            assert kind.__name__ in backpack_proto.__all__
