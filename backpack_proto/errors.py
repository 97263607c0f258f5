"""Errors by the one who erred.

`LocalProtocolError` is raised: the caller asked for something impossible, and the state is unchanged. It has a class of its own for
settings (`ConfigurationError`), for a client outside its block (`ClientClosed`), and for names, keys and symbols that do not exist.
`RemoteProtocolError` is never raised out of the core: faults of the exchange travel inside an event. So errors are values
too: they compare, pickle, and go through msgspec's encoders as an object of three members, `error` (the name of the class), `text`
and `details`. Decoding makes the same class again if it is one of those that the member may hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from types import FunctionType
from typing import Any

__all__ = [
    "ApiError",
    "BackpackError",
    "ClientClosed",
    "ConfigurationError",
    "InvalidKey",
    "InvalidStream",
    "LocalProtocolError",
    "NotSent",
    "NothingTraded",
    "OrderDoesNotFit",
    "OrderNotFound",
    "OrderStillOpen",
    "OrdersLeft",
    "OutcomeUnknown",
    "PartlyUnreadable",
    "RemoteProtocolError",
    "UnknownSymbol",
]


# A dataclass in the eyes of msgspec, which encodes and decodes those. The three members are worked out when they are read.
@dataclass(init=False, eq=False, repr=False, match_args=False)
class BackpackError(Exception):
    """Base of every error of this project. Equal when type and arguments are equal, so events that carry one compare."""

    error: str
    text: str
    details: dict[str, Any]

    def __post_init__(self) -> None:
        """Become, once decoded, the error that was encoded.

        Raises:
            ValueError: the members are not those of an error, or of one that may not stand here.
        """
        # The decoder has made no `args`, without which even a repr of it would crash.
        Exception.__init__(self)
        name, text, details = (self.__dict__.pop(member, None) for member in _MEMBERS)
        for kind in _kinds(type(self)):
            if kind.__name__ == name and isinstance(text, str) and isinstance(details, dict):
                self.__class__ = kind
                self.__init__(**details) if _arguments(kind) else self.__init__(text)  # type: ignore[misc]
                return
        raise ValueError(f"{name!r} is not a known error that may stand here")

    def to_dict(self) -> dict[str, Any]:
        """Return the name of the class, the text, and the details by their names."""
        return {member: getattr(self, member) for member in _MEMBERS}

    def __getattr__(self, name: str) -> Any:
        # Worked out instead of stored, so that subclasses need not know of it.
        match name:
            case "error":
                return type(self).__name__
            case "text":
                return str(self)
            case "details":
                return {argument: vars(self)[argument] for argument in _arguments(type(self)) if argument in vars(self)}
            case _:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.args == getattr(other, "args", None)

    def __hash__(self) -> int:
        return hash((type(self), self.args))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.details)


_MEMBERS = ("error", "text", "details")
_SHOWN_ROWS = 3


def _arguments(kind: type[BackpackError]) -> tuple[str, ...]:
    """The names of the parts of an error, or None for one that is made of its text alone."""
    # Python's own exceptions, such as `KeyError`, take any arguments.
    return tuple(signature(kind).parameters) if isinstance(kind.__init__, FunctionType) else ()


def _kinds(kind: type[BackpackError]) -> Iterator[type[BackpackError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _kinds(subclass)


def _rebuild(kind: type[BackpackError], args: tuple[Any, ...], details: dict[str, Any]) -> BackpackError:
    return kind(**details) if details else kind(*args)


class LocalProtocolError(BackpackError):
    """The caller asked for something that is impossible here. The refused step has left no trace."""


class ConfigurationError(LocalProtocolError, ValueError):
    """An argument or a setting cannot be used. The text names it as Python does, and shows its value unless that may be a secret."""


class OrderDoesNotFit(ConfigurationError):
    """An order that breaks rules of its market, found before anything was sent. One error names all that is wrong.

    `symbol` is the market. `violations` has a pair for each broken rule: the Python name of the parameter, and the reason, which has
    the value and the next valid one. Of a batch the parameters are such as `orders[1].price`.
    """

    def __init__(self, *, symbol: str, violations: tuple[tuple[str, str], ...]) -> None:
        violations = tuple((parameter, reason) for parameter, reason in violations)  # decoded ones are lists
        super().__init__(symbol, violations)
        self.symbol = symbol
        self.violations = violations

    def __str__(self) -> str:
        texts = [f"{parameter}: {reason}" for parameter, reason in self.violations]
        if len(texts) > 1:
            texts = [f"({number}) {text}" for number, text in enumerate(texts, 1)]
        return f"does not fit the rules of {self.symbol}: {'; '.join(texts)}"


class ClientClosed(LocalProtocolError):
    """A client was used before its `async with` block or after its end."""


class InvalidStream(LocalProtocolError):
    """A stream or channel name that the exchange does not have (docs/protocol.md 4.1)."""


class InvalidKey(LocalProtocolError):
    """Key material of the wrong form, or two keys that do not belong together. The text never holds the material."""


class UnknownSymbol(LocalProtocolError, KeyError):
    """A symbol that the exchange's market list does not hold."""

    # Not in the quotes of a KeyError: the argument is a sentence.
    __str__ = Exception.__str__


class RemoteProtocolError(BackpackError):
    """The exchange sent something that its protocol does not allow. Carried by events, not raised."""


class PartlyUnreadable(RemoteProtocolError):
    """A list came of which some rows cannot be read. Returning the others alone would look like a whole list.

    `endpoint` is the method and path, `rows` are the rows that could be read, in their order, and `errors` has a pair for each of the
    others: the id that it is known by, empty where even that cannot be read, and the reason. Decoded from JSON, `rows` are mappings.
    """

    def __init__(self, *, endpoint: str, rows: tuple[Any, ...], errors: tuple[tuple[str, str], ...]) -> None:
        rows, errors = tuple(rows), tuple((key, reason) for key, reason in errors)  # decoded ones are lists
        super().__init__(endpoint, rows, errors)
        self.endpoint = endpoint
        self.rows = rows
        self.errors = errors

    def __str__(self) -> str:
        named = ", ".join(f"{key or 'a row without an id'} ({reason})" for key, reason in self.errors[:_SHOWN_ROWS])
        more = f" and {len(self.errors) - _SHOWN_ROWS} more" if len(self.errors) > _SHOWN_ROWS else ""
        total = len(self.rows) + len(self.errors)
        return f"{self.endpoint}: {len(self.errors)} of {total} rows cannot be read: {named}{more}; `rows` has the others"


class ApiError(BackpackError):
    """The exchange refused a REST call.

    `status` is the HTTP status, `code` the exchange's own word for it (open list, docs/protocol.md 1.4, or empty when the
    body was not JSON), `message` its text, `endpoint` the method and path that were called, and `retry_after_us` how long
    to wait before another try makes sense (None: another try would fail the same way).
    """

    def __init__(self, *, status: int, code: str, message: str, endpoint: str, retry_after_us: int | None = None) -> None:
        super().__init__(status, code, message, endpoint, retry_after_us)
        self.status = status
        self.code = code
        self.message = message
        self.endpoint = endpoint
        self.retry_after_us = retry_after_us

    def __str__(self) -> str:
        return f"{self.endpoint} answered {self.status} {self.code or '(no code)'}: {self.message}"


class NothingTraded(BackpackError):
    """There is no answer because there was no trade yet, in the requested time: the market is in order.

    `endpoint` is the method and path, `symbol` the market.
    """

    def __init__(self, *, endpoint: str, symbol: str) -> None:
        super().__init__(endpoint, symbol)
        self.endpoint = endpoint
        self.symbol = symbol

    def __str__(self) -> str:
        return f"{self.endpoint}: nothing was traded yet in {self.symbol}"


class NotSent(BackpackError):
    """A call did not leave: the exchange has not seen it, so it may be made again.

    `endpoint` is the method and path, `reason` the cause.
    """

    def __init__(self, *, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, reason)
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.endpoint} was not sent: {self.reason}"


class OrderNotFound(BackpackError):
    """The exchange lists no such order, neither open nor in history, nor any fill of it."""


class OrderStillOpen(BackpackError):
    """An order that was waited for had not ended in time. It is still open.

    `symbol`, `order_id`, `client_id` and `state` are the order's.
    """

    def __init__(self, *, symbol: str, order_id: str, client_id: int | None, state: str) -> None:
        super().__init__(symbol, order_id, client_id, state)
        self.symbol = symbol
        self.order_id = order_id
        self.client_id = client_id
        self.state = state

    def __str__(self) -> str:
        return f"{self.symbol} order {self.order_id} is still open: {self.state}"


class OrdersLeft(BackpackError):
    """A client was left while orders that it was to cancel were open, or may be. The text names them, and `client.left` has them."""


class OutcomeUnknown(BackpackError):
    """A call that changes something went out, and it is not known whether it had its effect: it must not be repeated blindly.

    `endpoint` is the method and path, `reason` the event instead of an answer. It can be looked up by the names in the
    call: `symbol`, `client_id` (the user's own id, None if not given) and `order_id` (the exchange's id of the order to be
    cancelled, accepted or changed). A batch has a (symbol, client id) pair per order in `orders`.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        reason: str,
        symbol: str | None = None,
        client_id: int | str | None = None,
        order_id: int | str | None = None,
        orders: tuple[tuple[str, int | None], ...] = (),
    ) -> None:
        orders = tuple((symbol, client_id) for symbol, client_id in orders)  # decoded ones are lists
        super().__init__(endpoint, reason, symbol, client_id, order_id, orders)
        self.endpoint = endpoint
        self.reason = reason
        self.symbol = symbol
        self.client_id = client_id
        self.order_id = order_id
        self.orders = orders

    def __str__(self) -> str:
        named = {"symbol": self.symbol, "client id": self.client_id, "order id": self.order_id}
        known = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        if self.orders:
            known = ", ".join(f"{symbol} client id {client_id}" for symbol, client_id in self.orders)
        return f"{self.endpoint}{f' ({known})' if known else ''}: the outcome is unknown: {self.reason}"
