"""Options that several commands share: the way to the exchange and the keys. And types of single arguments."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backpack_proto.auth.keys import Credentials
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.hints import did_you_mean, shown
from backpack_runtime.extras import MissingExtra
from backpack_runtime.key_sources import ENVIRONMENT, Keys, find_keys
from backpack_runtime.network.addresses import DEFAULT_TLS, REST_URL, TLS_VERSIONS, WS_URL
from backpack_runtime.network.proxy import InvalidProxy, Proxy
from backpack_runtime.network.proxy_settings import Proxies
from backpack_runtime.settings import DEFAULT_RUNTIME, Settings
from backpack_runtime.transports import check_runtime

from .complaints import complain, ended_by_signals

if TYPE_CHECKING:
    from backpack_proto.exchange import PlannedFault

__all__ = [
    "KEYS_COME_FROM",
    "KEYS_IN_FILE_OR_ENVIRONMENT",
    "NATS_URL",
    "add_connection",
    "add_faults",
    "add_key_file",
    "add_markets",
    "add_nats",
    "add_sandbox",
    "count",
    "credentials_of",
    "exchange_of",
    "keys_of",
    "names",
    "nats_url_of",
    "none_or_more",
    "port",
    "positive",
    "refuse_with_sandbox",
    "settings_of",
]

BACKENDS = ("asyncio", "trio")
KEYS_IN_FILE_OR_ENVIRONMENT = (
    "Keys come from --key-file, or from BACKPACK_API_KEY, BACKPACK_PUBLIC_KEY and BACKPACK_PRIVATE_KEY."
)
NATS_URL = "BACKPACK_NATS_URL"
KEYS_COME_FROM = "Keys come from --key-file, from BACKPACK_API_KEY, BACKPACK_PUBLIC_KEY and BACKPACK_PRIVATE_KEY, or the private one from a prompt."


def add_connection(
    parser: argparse.ArgumentParser, *, sandbox: str, events: bool = True, backends: bool = True, seconds: float | None = None
) -> None:
    """Add the options of every command that follows an exchange: event loop, duration, form, exchange, and proxies.

    With `events=False` the command writes no events, and has no form for them. With `backends=False` it runs on asyncio alone. `seconds` is for how
    long unless given. Without it until Ctrl-C.
    """
    until = "at Ctrl-C" if seconds is None else f"{seconds:g}"
    if backends:
        _add_word(parser, "--backend", BACKENDS, default=BACKENDS[0], type=_backend, help="event loop (default: asyncio)")
    parser.add_argument(
        "--runtime",
        type=_runtime,
        default=DEFAULT_RUNTIME,
        metavar="NAME",
        help="the library that carries the bytes: anyio (the default), aiohttp (for asyncio), or one that another package adds",
    )
    parser.add_argument(
        "--seconds", type=positive, default=seconds, metavar="N", help=f"end after that time (default: {until})"
    )
    if events:
        parser.add_argument("--json", action="store_true", help="one JSON object an event and line, on standard output")
    where = add_sandbox(parser, help=sandbox)
    where.add_argument("--rest-url", metavar="URL", help="another REST API, such as that of `backpack-feed sandbox`")
    where.add_argument("--ws-url", metavar="URL", help="and its websocket")
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these authorities (PEM) instead of the system's")
    _add_word(where, "--minimum-tls", tuple(TLS_VERSIONS), help="refuse anything older; 1.2 (the default) or 1.3")
    way = parser.add_argument_group(
        "by which way",
        "Directly, unless one of these or the environment (CRYPTOFEED_PROXY_...) names a proxy: http, https, socks4, socks5 or socks5h,"
        " as SCHEME://[USER:PASSWORD@]HOST:PORT. Arguments show in process lists; the environment does not.",
    )
    way.add_argument("--proxy", type=_proxy, metavar="URL", help="for REST and websocket")
    way.add_argument("--rest-proxy", type=_proxy, metavar="URL", help="for REST")
    way.add_argument("--ws-proxy", type=_proxy, metavar="URL", help="for the websocket")


def add_markets(parser: argparse.ArgumentParser, *, channels: str) -> None:
    """Add the markets of a command, and `--channels`, of which `channels` is the help."""
    parser.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", default=["SOL_USDC"], help="SOL_USDC or SOL-USDC (default: SOL_USDC)"
    )
    parser.add_argument(
        "--channels", type=names, default=("book", "trades"), metavar="NAME,...", help=f"{channels} (default: book,trades)"
    )


def add_sandbox(parser: argparse.ArgumentParser, *, help: str) -> argparse._ArgumentGroup:  # noqa: A002 - as argparse calls it
    """Add `--sandbox`, and return the group for other options that say which exchange is meant."""
    where = parser.add_argument_group("which exchange", "Backpack itself, unless one of these is given.")
    where.add_argument("--sandbox", action="store_true", help=help)
    return where


def add_key_file(parser: argparse.ArgumentParser) -> None:
    """Add `--key-file`, for commands that use `keys_of`."""
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="JSON, lines of NAME=VALUE, bare keys, or PEM")


def add_nats(parser: argparse.ArgumentParser) -> None:
    """Add `--nats`, for commands that use `nats_url_of`."""
    parser.add_argument(
        "--nats",
        metavar="URL",
        help=f"NATS server with JetStream, such as nats://127.0.0.1:4222 (default: {NATS_URL} of the environment, which no process list shows)",
    )


def nats_url_of(parsed: argparse.Namespace) -> str:
    """Return the URL of the NATS server, of `--nats` or the environment.

    Raises:
        ConfigurationError: it is missing.
    """
    url: str = parsed.nats or os.environ.get(NATS_URL, "")
    if not url:
        raise ConfigurationError(
            f"--nats: the URL of a NATS server, such as nats://127.0.0.1:4222, or {NATS_URL} in the environment"
        )
    return url


def add_faults(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add `--faults`, which makes a simulated exchange fail."""
    parser.add_argument(
        "--faults",
        type=_faults,
        default=(),
        metavar="NAME[@T[-U]],...",
        help="faults of the simulated exchange, such as gap, drop@12, mute@20-30: at T, or from T to U, in seconds after the"
        " start, or without a time again and again; a name that it does not know lists all (docs/sandbox.md)",
    )


def refuse_with_sandbox(parsed: argparse.Namespace, *options: str) -> None:
    """Refuse options that are meaningless where `--sandbox` starts an exchange.

    Raises:
        ConfigurationError: one of them was given with it.
    """
    given = [f"--{option}" for option in options if getattr(parsed, option.replace("-", "_"))]
    if parsed.sandbox and given:
        raise ConfigurationError(f"--sandbox starts an exchange of its own: leave out {', '.join(given)}")


def settings_of(parsed: argparse.Namespace) -> Settings:
    """Return the settings that the options of `add_connection` describe.

    Raises:
        ConfigurationError: they contradict each other, or a value cannot be used.
    """
    refuse_with_sandbox(parsed, "rest-url", "ws-url", "ca-file", "minimum-tls")
    if bool(parsed.rest_url) != bool(parsed.ws_url):
        raise ConfigurationError("--rest-url and --ws-url belong together: give both")
    return Settings(
        rest_url=parsed.rest_url or REST_URL,
        ws_url=parsed.ws_url or WS_URL,
        ca_file=parsed.ca_file,
        minimum_tls=parsed.minimum_tls or DEFAULT_TLS,
        proxies=Proxies(rest=parsed.rest_proxy or parsed.proxy, websocket=parsed.ws_proxy or parsed.proxy),
        runtime=parsed.runtime,
    )


def exchange_of(parsed: argparse.Namespace) -> str:
    """Return the name of the exchange for an error text."""
    return "the sandbox" if parsed.sandbox else parsed.rest_url or REST_URL


def keys_of(parsed: argparse.Namespace, *, ask: bool = True) -> Keys:
    """Return the keys that the command is about. Warnings about the way they were given go to standard error.

    With `ask`, a private key that is not given is asked for on a terminal.
    """
    asked = ask and sys.stdin is not None and sys.stdin.isatty()
    with ended_by_signals():
        keys = find_keys(
            {name: getattr(parsed, name, None) for name in ENVIRONMENT},
            key_file=parsed.key_file,
            environment=os.environ,
            prompt=(lambda: getpass.getpass("Private key (not shown): ")) if asked else None,
        )
    for warning in keys.warnings:
        complain(f"warning: {warning}", 0)
    return keys


def credentials_of(keys: Keys) -> Credentials:
    """Return the signer of these keys, of which the private one is there.

    Raises:
        ConfigurationError: there is no private key.
        InvalidKey: a key is malformed, or another one does not belong to the private key.
    """
    if keys.private_key is None:
        raise ConfigurationError("no private key: BACKPACK_PRIVATE_KEY, --key-file or a terminal to ask on; or --sandbox")
    return Credentials(
        keys.private_key.reveal(),
        api_key=None if keys.api_key is None else keys.api_key.reveal(),
        public_key=None if keys.public_key is None else keys.public_key.reveal(),
    )


def names(text: str) -> tuple[str, ...]:
    """Read names between commas."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError("names stand between commas")
    return found


def positive(text: str) -> float:
    """Read a number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"not a positive number: {shown(text)}")
    return number


def count(text: str) -> int:
    """Read a whole number above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"not a positive whole number: {shown(text)}")
    return int(text)


def none_or_more(text: str) -> int:
    """Read a whole number, 0 included."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"not a whole number: {shown(text)}")
    return int(text)


def port(text: str) -> int:
    """Read the number of a port, 0 included."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"not a valid port: {shown(text)}")
    return int(text)


def _add_word(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    option: str,
    choices: Sequence[str],
    *,
    help: str,  # noqa: A002 - as argparse calls it
    default: str | None = None,
    type: Callable[[str], str] = str,  # noqa: A002 - as above
) -> None:
    """Add an option that takes one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"one of {', '.join(choices)}, got {shown(text)}{did_you_mean(text, choices)}")
        return type(text)

    parser.add_argument(option, type=read, default=default, metavar=f"{{{','.join(choices)}}}", help=help)


def _faults(text: str) -> tuple[PlannedFault, ...]:
    from backpack_proto.exchange import parse_faults  # noqa: PLC0415 - only a sandbox needs the simulated exchange

    try:
        return parse_faults(text)
    except LocalProtocolError as unreadable:
        raise argparse.ArgumentTypeError(str(unreadable).removeprefix("faults: ")) from None


def _backend(text: str) -> str:
    if text == "trio":
        try:
            import trio  # noqa: F401, PLC0415 - an extra, which need not be installed
        except ImportError as missing:
            raise argparse.ArgumentTypeError(str(MissingExtra("the backend trio", "trio", missing))) from None
    return text


def _runtime(text: str) -> str:
    try:
        check_runtime(text)
    except ConfigurationError as unknown:
        raise argparse.ArgumentTypeError(str(unknown).removeprefix("runtime: ")) from None
    return text


def _proxy(text: str) -> Proxy:
    try:
        return Proxy.parse(text)
    except InvalidProxy as invalid:
        raise argparse.ArgumentTypeError(str(invalid)) from None
