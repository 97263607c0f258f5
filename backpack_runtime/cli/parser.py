"""The command `backpack-feed`: watch markets and an account, check its keys, serve the sandbox, replay recordings.

This module loads nothing but the argument parser until it is clear what is to be done and signals are held back: an interrupt that
comes while the libraries load ends the program as quietly as a later one.

No complaint repeats what could be a key: it may have been given in the wrong place.

Exit codes: 0 done, 1 it failed (or a replay dropped frames), 2 it was asked for something impossible
(or that needs an extra that is not installed), 130 Ctrl-C, 143 SIGTERM,
141 whoever read the output has gone.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from backpack_runtime.key_sources import Keys, Secret
    from backpack_runtime.network.proxy import Proxy
    from backpack_runtime.network.proxy_settings import Proxies

__all__ = ["main"]

FAILED = 1
USAGE = 2
SIGNALLED = 128
"""Plus the number of the signal."""
LIKE_A_KEY = re.compile(r"[\w+/=%-]{32,}|(?<=://)\S+(?=@)")
"""Text that could be a key, or most of it; and user and password of a URL."""
STOPS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of the process); returns the exit code."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        parsed = _parser().parse_args(arguments)
        if sys.stdout is None:
            # Its descriptor will be that of the next thing that is opened, a socket perhaps.
            return _complain("there is no standard output", FAILED)
        _set_up_logging(parsed.verbose)
        return _run(parsed)
    except KeyboardInterrupt:
        return SIGNALLED + signal.SIGINT
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(parsed: argparse.Namespace) -> int:
    from backpack_proto.errors import BackpackError, LocalProtocolError  # noqa: PLC0415 - see the module's docstring
    from backpack_runtime.extras import MissingExtra  # noqa: PLC0415 - see the module's docstring

    try:
        return int(parsed.run(parsed))
    except BrokenPipeError:
        return SIGNALLED + signal.SIGPIPE
    except (LocalProtocolError, MissingExtra) as error:
        return _complain(error, USAGE)
    except (BackpackError, OSError) as error:
        return _complain(error, FAILED)


def _watch(parsed: argparse.Namespace) -> int:
    from .watch import WatchOptions, watch  # noqa: PLC0415 - see the module's docstring

    elsewhere = (parsed.rest_url, parsed.ws_url)
    if parsed.sandbox and (any(elsewhere) or parsed.ca_file or parsed.minimum_tls):
        return _complain("--sandbox starts an exchange of its own: no --rest-url, --ws-url, --ca-file or --minimum-tls", USAGE)
    if any(elsewhere) and not all(elsewhere):
        return _complain("--rest-url and --ws-url belong together", USAGE)
    options = WatchOptions(
        symbols=tuple(parsed.symbols),
        channels=parsed.channels,
        sandbox=parsed.sandbox,
        rest_url=parsed.rest_url,
        ws_url=parsed.ws_url,
        ca_file=parsed.ca_file,
        minimum_tls=parsed.minimum_tls,
        proxies=_proxies(parsed),
        runtime=parsed.runtime,
        seconds=parsed.seconds,
        as_json=parsed.json,
        depth=parsed.depth,
    )
    return watch(options, backend=parsed.backend)


def _account(parsed: argparse.Namespace) -> int:
    from .account import AccountOptions, follow  # noqa: PLC0415 - see the module's docstring

    elsewhere = (parsed.rest_url, parsed.ws_url)
    if parsed.sandbox and (any(elsewhere) or parsed.ca_file or parsed.minimum_tls or parsed.key_file):
        return _complain(
            "--sandbox has an account of its own: no --rest-url, --ws-url, --ca-file, --minimum-tls or --key-file", USAGE
        )
    if any(elsewhere) and not all(elsewhere):
        return _complain("--rest-url and --ws-url belong together", USAGE)
    if parsed.trade and not parsed.sandbox:
        return _complain("--trade is for the --sandbox only", USAGE)
    options = AccountOptions(
        sandbox=parsed.sandbox,
        rest_url=parsed.rest_url,
        ws_url=parsed.ws_url,
        ca_file=parsed.ca_file,
        minimum_tls=parsed.minimum_tls,
        proxies=_proxies(parsed),
        runtime=parsed.runtime,
        seconds=parsed.seconds,
        as_json=parsed.json,
        trade=parsed.trade,
    )
    return follow(options, None if parsed.sandbox else _keys(parsed), backend=parsed.backend)


def _auth_check(parsed: argparse.Namespace) -> int:
    from .auth_check import check_keys  # noqa: PLC0415 - see the module's docstring

    report = check_keys(_keys(parsed))
    print("\n".join(report.lines), flush=True)
    return report.code


def _keys(parsed: argparse.Namespace) -> Keys:
    """The keys that the command is about; says on standard error what was careless about the way they were given."""
    from getpass import getpass  # noqa: PLC0415 - see the module's docstring

    from backpack_runtime.key_sources import ENVIRONMENT, find_keys  # noqa: PLC0415 - see the module's docstring

    asked = sys.stdin is not None and sys.stdin.isatty()
    with _ended_by_signals():
        keys = find_keys(
            {name: getattr(parsed, name, None) for name in ENVIRONMENT},
            key_file=parsed.key_file,
            environment=os.environ,
            prompt=(lambda: getpass("Private key (not shown): ")) if asked else None,
        )
    for warning in keys.warnings:
        _complain(f"warning: {warning}", 0)
    return keys


def _proxies(parsed: argparse.Namespace) -> Proxies:
    from backpack_runtime.network.proxy_settings import Proxies  # noqa: PLC0415 - see the module's docstring

    return Proxies(rest=parsed.rest_proxy or parsed.proxy, websocket=parsed.ws_proxy or parsed.proxy)


def _secret(text: str) -> Secret:
    from backpack_runtime.key_sources import Secret  # noqa: PLC0415 - see the module's docstring

    return Secret(text)


def _sandbox(parsed: argparse.Namespace) -> int:
    from .sandbox import serve  # noqa: PLC0415 - see the module's docstring

    return serve(host=parsed.host, port=parsed.port, tls=parsed.tls, seed=parsed.seed, speed=parsed.speed)


def _replay(parsed: argparse.Namespace) -> int:
    from .replay import replay  # noqa: PLC0415 - see the module's docstring

    with _ended_by_signals():
        return replay(parsed.file, as_json=parsed.json)


def _parity(parsed: argparse.Namespace) -> int:
    from .parity import ParityOptions, compare_feeds  # noqa: PLC0415 - see the module's docstring

    if parsed.sandbox and (parsed.sandbox_url or parsed.ca_file):
        return _complain("--sandbox starts an exchange of its own: no --sandbox-url or --ca-file", USAGE)
    options = ParityOptions(
        symbols=tuple(parsed.symbols),
        sandbox=parsed.sandbox,
        sandbox_url=parsed.sandbox_url,
        ca_file=parsed.ca_file,
        seconds=parsed.seconds,
        as_json=parsed.json,
    )
    return compare_feeds(options)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals end the program inside the block, at once; after it they are held back as before."""
    before = {number: signal.signal(number, _exit_on_signal) for number in STOPS}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(SIGNALLED + number)


def _complain(error: object, code: int) -> int:
    # Some of it may be the exchange's own words, which must not move the cursor.
    print("backpack-feed:", "".join(one if one.isprintable() else " " for one in str(error)), file=sys.stderr)
    return code


def _set_up_logging(verbose: int) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("backpack_runtime").setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {LIKE_A_KEY.sub('<not shown>', message)} (--help explains)\n")


class _Version(argparse.Action):
    """Prints the version, which is loaded only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from backpack_proto import __version__  # noqa: PLC0415 - see the module's docstring

        print(parser.prog, __version__)
        parser.exit()


_KEYS_COME_FROM = "Keys come from --key-file, from BACKPACK_API_KEY, BACKPACK_PUBLIC_KEY and BACKPACK_PRIVATE_KEY, or the private one from a prompt."


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="backpack-feed", description="Backpack Exchange: verified order books, and accounts.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = _Parser(add_help=False)
    shared.add_argument("-v", "--verbose", action="count", default=0, help="log more to standard error; twice: everything")

    watch = commands.add_parser(
        "watch",
        parents=[shared],
        help="show market data as they come",
        description="Show market data as they come: a live view on a terminal, a line a second elsewhere, or JSON.",
    )
    watch.set_defaults(run=_watch)
    watch.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", default=["SOL_USDC"], help="SOL_USDC or SOL-USDC (default: SOL_USDC)"
    )
    watch.add_argument(
        "--channels",
        type=_names,
        default=("book", "trades"),
        metavar="NAME,...",
        help="book, book.200ms, trades, ticker, book_ticker, klines.1m, mark_price, open_interest, liquidations (default: book,trades)",
    )
    _add_loop(watch)
    watch.add_argument("--seconds", type=_positive, metavar="N", help="end after that time (default: at Ctrl-C)")
    watch.add_argument("--json", action="store_true", help="one JSON object an event and line, on standard output")
    watch.add_argument("--depth", type=_count, default=10, metavar="N", help="levels a side (default: 10)")
    _add_ways(watch, sandbox="a simulated exchange that is started along")

    account = commands.add_parser(
        "account",
        parents=[shared],
        help="show an account as it changes",
        description="Show balances, positions, open orders and fills as they change: tables on a terminal, lines elsewhere, or JSON."
        f" {_KEYS_COME_FROM}",
    )
    account.set_defaults(run=_account)
    _add_loop(account)
    account.add_argument("--seconds", type=_positive, metavar="N", help="end after that time (default: at Ctrl-C)")
    account.add_argument("--json", action="store_true", help="one JSON object an event and line, on standard output")
    account.add_argument("--trade", action="store_true", help="with --sandbox: place orders, so that there is something to see")
    account.add_argument("--key-file", type=Path, metavar="FILE", help="JSON, or lines of NAME=VALUE")
    _add_ways(account, sandbox="a simulated exchange that is started along, and its account")

    check = commands.add_parser(
        "auth-check",
        parents=[shared],
        help="check API keys, offline",
        description="Check the format of API keys, whether they belong together, and sign samples. Sends nothing, and never shows the"
        f" private key. {_KEYS_COME_FROM} The exit code is 2 when the keys cannot be used.",
    )
    check.set_defaults(run=_auth_check)
    check.add_argument("--api-key", type=_secret, metavar="KEY", help="the public key, as the exchange calls it")
    check.add_argument("--public-key", type=_secret, metavar="KEY", help="32 bytes in hex or base64")
    check.add_argument(
        "--private-key", type=_secret, metavar="KEY", help="32 or 64 bytes in hex or base64; arguments show in process lists"
    )
    check.add_argument("--key-file", type=Path, metavar="FILE", help="JSON, or lines of NAME=VALUE")

    sandbox = commands.add_parser(
        "sandbox",
        parents=[shared],
        help="serve the simulated exchange",
        description="Serve the simulated exchange until Ctrl-C. The first line of output says where it is, as JSON.",
    )
    sandbox.set_defaults(run=_sandbox)
    sandbox.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    sandbox.add_argument("--port", type=_port, default=0, metavar="N", help="port (default: a free one)")
    sandbox.add_argument("--tls", action="store_true", help="https and wss, by a throwaway authority")
    sandbox.add_argument("--seed", type=int, default=0, metavar="N", help="decides what the markets do (default: 0)")
    sandbox.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="so many times as lively (default: 1)")

    replay = commands.add_parser(
        "replay",
        parents=[shared],
        help="read recorded frames",
        description="Read recorded websocket frames, one a line, offline. The exit code is 1 when one of them could not be used.",
    )
    replay.set_defaults(run=_replay)
    replay.add_argument("file", metavar="FILE", help="the recording; - is standard input")
    replay.add_argument("--json", action="store_true", help="one JSON object an event and line")
    _add_parity(commands, shared)
    return parser


def _add_loop(parser: argparse.ArgumentParser) -> None:
    """What runs the command."""
    parser.add_argument(
        "--backend", choices=("asyncio", "trio"), type=_backend, default="asyncio", help="event loop (default: asyncio)"
    )
    parser.add_argument(
        "--runtime",
        metavar="NAME",
        type=_runtime,
        default="anyio",
        help="what carries the bytes: anyio (the default), aiohttp (for asyncio), or one that another package adds",
    )


def _add_ways(parser: argparse.ArgumentParser, *, sandbox: str) -> None:
    """What every command takes that connects to an exchange."""
    where = parser.add_argument_group("which exchange", "Backpack itself, unless one of these is given.")
    where.add_argument("--sandbox", action="store_true", help=sandbox)
    where.add_argument("--rest-url", metavar="URL", help="another REST API, such as that of `backpack-feed sandbox`")
    where.add_argument("--ws-url", metavar="URL", help="and its websocket")
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these authorities (PEM) instead of the system's")
    where.add_argument(
        "--minimum-tls", choices=("1.2", "1.3"), metavar="VERSION", help="refuse anything older; 1.2 (the default) or 1.3"
    )
    way = parser.add_argument_group(
        "by which way",
        "Directly, unless one of these or the environment (CRYPTOFEED_PROXY_...) names a proxy: http, https, socks4, socks5 or socks5h,"
        " as SCHEME://[USER:PASSWORD@]HOST:PORT. Arguments show in process lists; the environment does not.",
    )
    way.add_argument("--proxy", type=_proxy, metavar="URL", help="for REST and websocket")
    way.add_argument("--rest-proxy", type=_proxy, metavar="URL", help="for REST")
    way.add_argument("--ws-proxy", type=_proxy, metavar="URL", help="for the websocket")


def _proxy(text: str) -> Proxy:
    from backpack_runtime.network.proxy import InvalidProxy, Proxy  # noqa: PLC0415 - see the module's docstring

    try:
        return Proxy.parse(text)
    except InvalidProxy as invalid:
        raise argparse.ArgumentTypeError(str(invalid)) from None


def _add_parity(commands: argparse._SubParsersAction[_Parser], shared: _Parser) -> None:
    parity = commands.add_parser(
        "parity",
        parents=[shared],
        help="compare the native feed with the one by ccxt",
        description="Run cryptofeed's two Backpack feeds side by side on the same exchange, and compare trades, tops of books and latency."
        " Needs the extras cryptofeed and ccxt. The exit code is 1 when the feeds differ.",
    )
    parity.set_defaults(run=_parity)
    parity.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", default=["SOL-USDC"], help="normalised, such as SOL-USDC (the default)"
    )
    parity.add_argument("--seconds", type=_positive, default=30.0, metavar="N", help="for how long (default: 30)")
    parity.add_argument("--json", action="store_true", help="one JSON object in the place of the table")
    where = parity.add_argument_group("which exchange", "Backpack itself, unless one of these is given.")
    where.add_argument("--sandbox", action="store_true", help="a simulated exchange that is started along")
    where.add_argument(
        "--sandbox-url", metavar="URL", help="one that is running: the REST address that `backpack-feed sandbox` prints"
    )
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these authorities (PEM) instead of the system's")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError("channel names stand between commas")
    return names


def _runtime(text: str) -> str:
    from backpack_runtime.transports import runtime_names  # noqa: PLC0415 - see the module's docstring

    names = runtime_names()
    if text not in names:
        raise argparse.ArgumentTypeError(f"no such runtime: {text!r} (choose from {', '.join(names)})")
    return text


def _backend(text: str) -> str:
    if text == "trio":
        try:
            import trio  # noqa: F401, PLC0415 - an extra, which need not be installed
        except ImportError as missing:
            from backpack_runtime.extras import MissingExtra  # noqa: PLC0415 - see the module's docstring

            raise argparse.ArgumentTypeError(str(MissingExtra("the backend trio", "trio", missing))) from None
    return text


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
