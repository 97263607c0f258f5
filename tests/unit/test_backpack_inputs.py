"""What commands and facts show of themselves: they end up in logs and tracebacks, and some of them hold what is secret."""

from __future__ import annotations

import pytest

from backpack_proto.inputs import Call


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format])
def test_a_call_shows_the_names_of_its_parameters_and_no_value(show: type[str]) -> None:
    call = Call(call_id=3, endpoint="withdraw", parameters={"address": "So1anaAddre55", "twoFactorToken": "123456"})
    assert show(call) == "Call(3, withdraw, address, twoFactorToken)"
    assert show([call]) == "[Call(3, withdraw, address, twoFactorToken)]"


def test_a_call_without_parameters_says_so() -> None:
    assert repr(Call(call_id=4, endpoint="ping")) == "Call(4, ping, no parameters)"
