"""Rows of the endpoint table: the address of a call, its parameters, and its result.

Parameters are held to their rules before anything is sent, and leave as they stand on the wire: a `Decimal` becomes text with all of
its digits and no exponent, None is left out (docs/protocol.md 2.2). Each has two names, `orderType` on the wire and `order_type` in
Python, and a call may use either. A refusal names the endpoint and the parameter, in the spelling of the call, and shows the value
unless it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeAlias

from msgspec import Struct

from backpack_proto.decoding import amount, is_unicode
from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import NOT_EXACT, did_you_mean, shown
from backpack_proto.http import Parameter
from backpack_proto.importance import Importance
from backpack_proto.inputs import Arguments

__all__ = [
    "BATCH",
    "BATCH_LIMIT",
    "Checked",
    "Endpoint",
    "Group",
    "ParameterRule",
    "both_or_neither",
    "exactly_one",
    "needs_one",
    "no_more_than_one",
]

BATCH: Final = "orders"
"""The parameter that holds the orders of a batch. On the wire they are the body itself."""
BATCH_LIMIT: Final = 20
"""The most orders that go into one batch (docs/protocol.md 1.3)."""

_PLACES: Final = "orderExecute"
"""The instruction of orders, alone and in batches (docs/protocol.md 2.4)."""

Checked: TypeAlias = Mapping[str, Parameter | Sequence[Mapping[str, Parameter]]]
"""Parameters that keep the rules, each as it stands on the wire."""

_OTHER_WORDS = {
    "buy": "Bid",
    "long": "Bid",
    "sell": "Ask",
    "short": "Ask",
    "bids": "Bid",
    "asks": "Ask",
    "desc": "Desc",
    "asc": "Asc",
}
"""Words of other exchanges for words of this one, for hints."""


@cache
def _snake_case(name: str) -> str:
    """Return the Python spelling of a name of the wire."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


class ParameterRule(Struct, frozen=True, gc=False, kw_only=True):
    """Rule of one parameter of an endpoint."""

    name: str
    """On the wire."""
    python: str = ""
    """In Python, where that is more than another spelling: it may say the unit."""
    kind: type[str | int | bool | Decimal] = str
    required: bool = False
    choices: tuple[Parameter, ...] = ()
    """The allowed values, or empty where there is no list."""
    grows: bool = False
    """The exchange adds to its list, so words that are not in `choices` may be right as well."""
    minimum: int = 0
    """Of a whole number."""
    maximum: int = 2**63 - 1
    unit: str = ""
    percent: bool = False
    """A decimal may be a percentage, such as `80%`."""
    numeric: bool = False
    """A text that may be given as a whole number. It stays one on the wire."""
    secret: bool = False
    """No error shows its value."""

    @property
    def python_name(self) -> str:
        """The name in Python."""
        return self.python or _snake_case(self.name)

    @property
    def shape(self) -> str:
        """The rule in words."""
        words = ", ".join(map(str, self.choices))
        if self.kind is int and not self.choices:
            return f"{self.unit or 'a whole number'}, from {self.minimum} to {self.maximum}"
        if self.kind is Decimal:
            return f"a Decimal, an int or text in plain digits{', or a percentage' if self.percent else ''}"
        if words:
            return f"text such as {words}" if self.grows else f"one of {words}"
        return "true or false" if self.kind is bool else f"text{' or a whole number' if self.numeric else ''}"

    def check(self, value: object, called: str = "") -> Parameter:
        """Hold a value to the rule and return it as it stands on the wire. `called` is the parameter's name in errors.

        Raises:
            LocalProtocolError: naming the parameter, its shape and the value that was given.
        """
        wire: Parameter | None = None
        match value:
            case bool():  # an int in Python, but not on the wire
                wire = value if self.kind is bool else None
            case int() if self.kind is int or self.numeric:
                wire = int(value) if self.minimum <= value <= self.maximum else None
            case str() if self.kind is Decimal:
                number = value.removesuffix("%") if self.percent else value
                wire = None if amount(number) is None else str.__str__(value)
            case str() if self.kind is str and is_unicode(value):
                wire = str.__str__(value) or None  # members of a `str, Enum` class are given by their value
            case Decimal() | int() if self.kind is Decimal:
                exact = amount(value)
                wire = None if exact is None else f"{exact:f}"
            case _:
                pass
        if wire is None or (self.choices and not self.grows and wire not in self.choices):
            given = "a value that is not shown" if self.secret else shown(value)
            raise LocalProtocolError(f"{called or self.name}: {self.shape}, got {given}{self._hint(value)}")
        return wire

    def _hint(self, value: object) -> str:
        """Return the word that was probably meant, or the way to say it, as the end of an error text."""
        if self.kind is Decimal and isinstance(value, float):
            return NOT_EXACT
        words = [word for word in self.choices if isinstance(word, str)]
        return did_you_mean(value, words, {other: word for other, word in _OTHER_WORDS.items() if word in words})


class Group(Struct, frozen=True, gc=False, kw_only=True):
    """Number of parameters of a group that a call takes together."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    """The allowed numbers of them."""
    when: tuple[str, Parameter] | None = None
    """The group holds only where this parameter has this value."""

    def shape(self, called: Callable[[str], str] = str) -> str:
        """Return the rule in words. `called` gives the name of a parameter as the call spells it."""
        names = ", ".join(map(called, self.names))
        if self.counts == (0,):
            said = f"takes no {names}"
        elif self.counts == (1,):
            said = f"takes exactly one of {names}" if len(self.names) > 1 else f"needs {names}"
        elif self.counts == (0, len(self.names)):
            said = f"takes {names} all together or not at all"
        elif 0 in self.counts:
            said = f"takes no more than {max(self.counts)} of {names}"
        else:
            said = f"needs at least {min(self.counts)} of {names}"
        return said if self.when is None else f"{said} where {called(self.when[0])} is {self.when[1]}"

    def check(self, given: Mapping[str, Parameter], called: Callable[[str], str] = str) -> None:
        """Hold checked parameters to the rule. `called` is as for `shape`.

        Raises:
            LocalProtocolError: saying the rule, and which of the parameters were given.
        """
        if self.when is not None and given.get(self.when[0]) != self.when[1]:
            return
        present = [called(name) for name in self.names if name in given]
        if len(present) not in self.counts:
            raise LocalProtocolError(f"{self.shape(called)}; given: {', '.join(present) or 'none'}")


def exactly_one(*names: str, when: tuple[str, Parameter] | None = None) -> Group:
    """One of them, and no other."""
    return Group(names=names, counts=(1,), when=when)


def no_more_than_one(*names: str) -> Group:
    """At most one of them."""
    return Group(names=names, counts=(0, 1))


def needs_one(*names: str) -> Group:
    """One of them, or several."""
    return Group(names=names, counts=tuple(range(1, len(names) + 1)))


def both_or_neither(*names: str) -> Group:
    """All of them, or not one."""
    return Group(names=names, counts=(0, len(names)))


class Endpoint(Struct, frozen=True, gc=False, kw_only=True):
    """One REST call. The parameters of a GET stand in the query, those of all other methods in a JSON body."""

    name: str
    method: str = "GET"
    path: str
    former: tuple[str, ...] = ()
    """Names and routes that the exchange and this table had for it before. `find_endpoint` knows them."""
    instruction: str | None = None
    """Name in its signature, or None for public calls, which are not signed (docs/protocol.md 2.4)."""
    parameters: tuple[ParameterRule, ...] = ()
    groups: tuple[Group, ...] = ()
    batch: bool = False
    """It takes one parameter, `orders`, a sequence of 1 to `BATCH_LIMIT` mappings that `parameters` and `groups` speak of."""
    historical: bool = False
    """It counts against the small budget of historical market data (docs/protocol.md 1.3)."""
    importance: Importance = Importance.READ
    """Its place among requests that wait: a cancel, an order, or a read, which its asker may place otherwise."""
    may_be_empty: bool = False
    """A 204 without a body says that there was no trade yet. Elsewhere it is an answer that cannot be read."""
    paged: bool = False
    """The answer is a `Page` of the rows in `result`."""
    result: Any
    """The type of the answer, or None for a call that answers with its status alone."""
    read: Callable[[bytes, Checked], object] | None = None
    """Makes a `result` of a body and of the parameters of the call, where its JSON is not that of `result` already."""

    @property
    def places_orders(self) -> bool:
        """True when its parameters are an order, or a batch of them."""
        return self.instruction == _PLACES

    def orders_of(self, checked: Checked) -> Sequence[Mapping[str, Parameter]]:
        """Return the orders that checked parameters place, in their order, or None where the call does not place orders."""
        if not self.places_orders:
            return ()
        orders = checked.get(BATCH)
        if isinstance(orders, Sequence) and not isinstance(orders, str):
            return orders
        return ({name: value for name, value in checked.items() if isinstance(value, str | int)},)

    def __post_init__(self) -> None:
        """Refuse a row that forgets to say how important a change is."""
        if self.idempotent != (self.importance is Importance.READ):
            raise LocalProtocolError(
                f"importance: {self.route} is {self.importance.name}; only a GET is a READ, and no GET is more"
            )

    @property
    def route(self) -> str:
        """Method and path, which no two endpoints share."""
        return f"{self.method} {self.path}"

    @property
    def idempotent(self) -> bool:
        """True when a second try does no harm: it only reads."""
        return self.method == "GET"

    def check(self, given: Arguments) -> Checked:
        """Check the parameters of a call by the rules and return them as they stand on the wire.

        Raises:
            LocalProtocolError: naming the endpoint, the parameter and its valid values.
        """
        if not self.batch:
            return self._check(self.name, given)
        orders = given.get(BATCH)
        if set(given) != {BATCH} or isinstance(orders, str) or not isinstance(orders, Sequence):
            raise LocalProtocolError(f"{self.name} takes {BATCH}, a sequence of orders, and nothing else")
        if not 1 <= len(orders) <= BATCH_LIMIT:
            raise LocalProtocolError(f"{self.name} takes 1 to {BATCH_LIMIT} {BATCH}; given: {len(orders)}")
        return {BATCH: tuple(self._check(f"{self.name}: {BATCH}[{number}]", order) for number, order in enumerate(orders))}

    def _check(self, what: str, given: object) -> dict[str, Parameter]:
        if not isinstance(given, Mapping):
            raise LocalProtocolError(f"{what}: a mapping of parameters, got {shown(given)}")
        on_wire = {rule.name: rule for rule in self.parameters}
        in_python = {rule.python_name: rule for rule in self.parameters}
        python_call = any(name in in_python and name not in on_wire for name in given)

        def called(name: str) -> str:
            return on_wire[name].python_name if python_call else name

        checked: dict[str, Parameter] = {}
        for name, value in given.items():
            if value is None:
                continue
            rule = on_wire.get(name) or in_python.get(name)
            if rule is None:
                known = [called(other) for other in on_wire]
                hint = did_you_mean(name, known) or (f"; it has {', '.join(known)}" if known else "; it has none")
                raise LocalProtocolError(f"{what} has no parameter {shown(name)}{hint}")
            if rule.name in checked:
                raise LocalProtocolError(f"{what}: {rule.python_name} and {rule.name} are two names of one parameter: give one")
            try:
                checked[rule.name] = rule.check(value, called(rule.name))
            except LocalProtocolError as error:
                raise LocalProtocolError(f"{what}: {error}") from None
        for rule in self.parameters:
            if rule.required and rule.name not in checked:
                raise LocalProtocolError(f"{what} needs {called(rule.name)}: {rule.shape}")
        for group in self.groups:
            try:
                group.check(checked, called)
            except LocalProtocolError as error:
                raise LocalProtocolError(f"{what} {error}") from None
        return checked
