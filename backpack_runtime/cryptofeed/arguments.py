"""Checks of the arguments of a feed: an argument that could not work later is refused at once, by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cryptofeed.exchange import Exchange
from cryptofeed.feed import Feed

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import did_you_mean, shown
from backpack_runtime.checks import refuse_text

from .channels import OTHER_CHANNELS, PRIVATE_CHANNELS, standard_channel
from .config.model import BackpackConfig
from .errors import BackpackAuthError
from .logs import LOG

__all__ = [
    "callback_name",
    "check_keywords",
    "check_private_channels",
    "check_symbols",
    "check_texts",
    "checked_callbacks",
    "microseconds",
]

_OTHER_KEYWORDS = {
    "testnet": "sandbox",
    "interval": "candle_interval",
    "depth": "max_depth",
    "proxy": "http_proxy",
    "markets": "symbols",
    "pairs": "symbols",
}
"""Other words for arguments, for hints."""
_SWITCHES = {"candle_closed_only", "checksum_validation", "cross_check", "log_message_on_error"}
_NUMBERS = {"delay_start", "retries", "shutdown_timeout", "timeout", "timeout_interval"}


def check_keywords(feed: type[Any], options: Mapping[str, Any]) -> None:
    """Refuse arguments that cryptofeed would swallow without a word: those that neither this feed nor this version of cryptofeed has.

    An argument that has no effect at this exchange is warned of.

    Raises:
        ConfigurationError: there is no such argument, or its value is of another kind.
    """
    if options.get("subaccount") is not None:
        raise ConfigurationError("subaccount: a subaccount of Backpack has keys of its own; give those as the keys of config")
    theirs = _keywords(Feed) | _keywords(Exchange)
    own = _keywords(feed)
    for name in options:
        if name in BackpackConfig.model_fields:
            raise ConfigurationError(f"{name}: it is a field of config; give config={{{name!r}: ...}}")
        if name not in theirs:
            hint = did_you_mean(name, sorted(own | theirs), _OTHER_KEYWORDS)
            raise ConfigurationError(f"{name}: {feed.__name__} has no such argument{hint}")
        _check_value(name, options[name])
    if options.get("checksum_validation"):
        LOG.warning("BACKPACK: checksum_validation has no effect, the exchange sends no checksums")


def _check_value(name: str, value: object) -> None:
    """Refuse values that cryptofeed would misread: any text is true, and no text is a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _SWITCHES and not isinstance(value, bool) and value is not None:
        raise ConfigurationError(f"{name}: True or False, got {shown(value)}")
    if name in _NUMBERS and not is_number:
        raise ConfigurationError(f"{name}: a number, got {shown(value)}")
    if name == "max_depth" and not (is_number and isinstance(value, int) and value >= 0):
        raise ConfigurationError(f"max_depth: a whole number of levels a side, 0 for all, got {shown(value)}")


def _keywords(owner: type[Any]) -> frozenset[str]:
    parameters = inspect.signature(owner.__init__).parameters.values()
    return frozenset(one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD) - {"self"}


def check_private_channels(settings: BackpackConfig, channels: Iterable[str]) -> None:
    """Refuse private channels without credentials.

    Raises:
        BackpackAuthError: there are some.
    """
    private = sorted(PRIVATE_CHANNELS.intersection(channels))
    if private and not settings.enable_private_channels:
        raise BackpackAuthError(f"{', '.join(private)} needs enable_private_channels=True and auth credentials")


def check_texts(symbols: object, channels: object, subscription: Mapping[str, Iterable[Any]] | None) -> None:
    """Refuse one text where a list of texts is due.

    Raises:
        ConfigurationError: there is one.
    """
    for name, given in (("symbols", symbols), ("channels", channels)):
        refuse_text(name, given)
    for channel, given in (subscription or {}).items():
        refuse_text(f"subscription[{shown(channel)}]", given)


def check_symbols(
    symbols: Iterable[Any] | None, channels: Iterable[str] | None, subscription: Mapping[str, Iterable[Any]] | None
) -> None:
    """Refuse an empty subscription, which earlier versions of cryptofeed make without a word.

    Raises:
        ConfigurationError: symbols without channels, or public channels without symbols.
    """
    if channels and not symbols and subscription is None:
        subscription = {channel: [] for channel in channels}
    if symbols and not channels:
        raise ConfigurationError('channels: symbols need channels; give some, as in ["trades"]')
    without = [channel for channel, names in (subscription or {}).items() if not names and channel not in PRIVATE_CHANNELS]
    if without:
        raise ConfigurationError(f'symbols: {", ".join(without)} needs symbols; give some, as in ["SOL-USDC"]')


def microseconds(name: str, seconds: object) -> int:
    """Return a number of seconds as whole microseconds.

    Raises:
        ConfigurationError: it is not a finite number of at least a thousandth.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.001 <= seconds < float("inf"):
        raise ConfigurationError(f"{name}: a number of seconds, at least 0.001, got {shown(seconds)}")
    return int(seconds * 1e6)


def checked_callbacks(callbacks: object, known: Iterable[str], wanted: Iterable[str]) -> dict[str, list[Any]] | None:
    """Return the callbacks of each channel, under cryptofeed's names of the channels.

    A callback that is never called, and a wanted channel without a callback, are logged as warnings.

    Raises:
        ConfigurationError: one of them cannot be awaited with an object and a time. cryptofeed 2 would take it, and fail at every object.
    """
    if callbacks is None:
        return None
    if not isinstance(callbacks, Mapping):
        raise ConfigurationError(f"callbacks: a mapping of channels to coroutine functions, got {shown(callbacks)}")
    found: dict[str, list[Any]] = {}
    for channel, given in callbacks.items():
        name = f"callbacks[{shown(channel)}]"
        if not isinstance(channel, str):
            raise ConfigurationError(f"{name}: the key is the name of a channel, as in 'trades', not {shown(channel)}")
        group = given if isinstance(given, list) else [given]
        for callback in group:
            _check_callback(name, callback)
        found.setdefault(standard_channel(channel), []).extend(group)
    known, wanted = list(known), [standard_channel(channel) for channel in wanted]
    for channel in found:
        if channel not in known:
            hint = did_you_mean(channel, known, OTHER_CHANNELS)
            LOG.warning("BACKPACK: a callback for %r will never be called, there is no such channel%s", channel, hint)
        elif channel not in wanted:
            LOG.warning("BACKPACK: a callback for %s will never be called, the channel is not subscribed", channel)
    without = [channel for channel in wanted if not found.get(channel)]
    if without:
        LOG.warning("BACKPACK: nothing will be delivered of %s: there is no callback for it", ", ".join(without))
    return found


def callback_name(callback: Any) -> str:
    """Return a name that its author recognises: that of the function behind a partial, of the class of an object."""
    while (inner := getattr(callback, "func", None)) is not None:
        callback = inner
    name = getattr(callback, "__qualname__", None)
    return name if isinstance(name, str) else type(callback).__qualname__


def _check_callback(name: str, callback: Any) -> None:
    wants = f"{name}: a coroutine function (async def) that takes an object and its receipt timestamp"
    called: Callable[..., object] | None = getattr(callback, "__call__", None)  # noqa: B004 - looked into, not only found
    awaits = inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(called)
    if inspect.isclass(callback) or not awaits:
        got = f"{callback_name(callback)} ({_kind(callback)})" if callable(callback) else shown(callback)
        raise ConfigurationError(f"{wants}, got {got}, which cannot be awaited; {_remedy(callback)}")
    try:
        inspect.signature(callback).bind(None, None)
    except TypeError as error:
        raise ConfigurationError(f"{wants}, got {callback_name(callback)}, which does not: {error}") from None
    except ValueError:
        # A callable from C may have no signature to be looked at.
        return


def _kind(callback: Any) -> str:
    if inspect.isclass(callback):
        return "a class"
    return shown(callback)


def _remedy(callback: Any) -> str:
    if inspect.isclass(callback):
        return "give an object of it, with async def __call__"
    if callable(callback):
        return "write async def, and await asyncio.to_thread(...) in it for work that blocks"
    return "write async def"
