"""Strategies for everything that a session tells, and for the frames that it is told."""

from __future__ import annotations

from typing import Any, Final, get_args

from hypothesis import strategies as st

import backpack_proto
from backpack_proto.errors import LocalProtocolError
from backpack_proto.outputs import CallAnswered
from backpack_proto.rest.endpoints.table import ENDPOINTS, Endpoint
from backpack_proto.rest.markets import Market, Markets
from backpack_proto.rest.results.market_data import Page
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.payloads import Event, Payload, StreamPayload
from backpack_proto.testing.wire import encode_frame

from .members import Drawing, of_type, value_of

__all__ = ["EVENTS", "PAYLOADS", "broken_frames", "events", "frames", "payloads"]

PAYLOADS: Final[tuple[type[StreamPayload], ...]] = get_args(Payload)
"""Every type of data of a stream."""


def _is_base(kind: type[Event]) -> bool:
    return kind not in PAYLOADS and bool(kind.__subclasses__())


def _public_events() -> tuple[type[Event], ...]:
    exported = [getattr(backpack_proto, name) for name in sorted(backpack_proto.__all__)]
    return tuple(kind for kind in exported if isinstance(kind, type) and issubclass(kind, Event) and not _is_base(kind))


EVENTS: Final = _public_events()
"""Every type of event that `backpack_proto` exports, payloads among them."""


def events(*kinds: type[Event]) -> st.SearchStrategy[Event]:
    """Return a strategy for events of these types. A base is all of its kinds. Without arguments it is every type.

    Raises:
        LocalProtocolError: one of them is not a type of event.
    """
    return st.one_of([_event(kind) for kind in _chosen(kinds, EVENTS, "event")])


def payloads(*kinds: type[StreamPayload]) -> st.SearchStrategy[Any]:
    """Return a strategy for data of streams, as a frame brings them. A base is all of its kinds. Without arguments it is every type.

    Raises:
        LocalProtocolError: one of them is not a type of payload.
    """
    return st.one_of([_event(kind) for kind in _chosen(kinds, PAYLOADS, "payload")])


def frames(*channels: Channel | str) -> st.SearchStrategy[bytes]:
    """Return a strategy for text frames as the exchange sends them on these channels. Without arguments it is every channel.

    Raises:
        LocalProtocolError: the exchange has no such channel.
    """
    names = [channel.value for channel in Channel]
    for channel in channels:
        if channel not in names:
            raise LocalProtocolError(f"channels: one of {', '.join(names)}, got {channel!r}")
    chosen = [Channel(name) for name in names if not channels or name in channels]
    return payloads(*(kind for channel in chosen for kind in channel.traits.payloads)).map(encode_frame)


@st.composite
def broken_frames(draw: st.DrawFn) -> bytes:
    """Return a strategy for invalid frames: one that is cut short, one with a byte changed, or any bytes at all."""
    frame = draw(frames())
    place = draw(st.integers(0, len(frame) - 1))
    match draw(st.sampled_from(("cut", "changed", "foreign"))):
        case "cut":
            return frame[:place]
        case "changed":
            return frame[:place] + draw(st.binary(min_size=1, max_size=1)) + frame[place + 1 :]
        case _:
            return draw(st.binary(max_size=20))


def _chosen(kinds: tuple[type[Any], ...], known: tuple[type[Any], ...], what: str) -> list[type[Any]]:
    found = []
    for kind in kinds or known:
        # A type that is drawn itself is asked for alone, though others are made from it. A base is asked for all of its kinds.
        of_kind = [kind] if kind in known else [one for one in known if issubclass(one, kind)]
        if not of_kind:
            raise LocalProtocolError(f"kinds: types of {what}s of backpack_proto, got {kind.__name__}")
        found += of_kind
    return list(dict.fromkeys(found))


def _event(kind: type[Event]) -> Drawing:
    if kind is CallAnswered:
        return st.one_of([_answered(name, endpoint) for name, endpoint in ENDPOINTS.items()])
    return value_of(kind)


def _answered(name: str, endpoint: Endpoint) -> Drawing:
    if endpoint.result is Markets:
        result: Drawing = st.lists(value_of(Market), max_size=2).map(Markets)
    elif endpoint.paged:
        result = st.builds(Page, rows=of_type(endpoint.result), total=st.none() | st.integers(0, 1000))
    else:
        result = of_type(endpoint.result)
    return st.builds(CallAnswered, call_id=st.integers(1, 1000), endpoint=st.just(name), result=result)
