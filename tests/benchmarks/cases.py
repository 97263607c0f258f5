"""All that is measured: groups of cases, which alternate in every round of their group."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .server import Pace

__all__ = ["GROUPS", "Case", "Group", "Load", "Sizes", "groups", "why_not"]

US_A_FRAME = "us_a_frame"
PACED_SECONDS = 3
BURST = 50
TARGET_PER_SECOND = 900
MANY_SYMBOLS = (10, 91, 400)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    frames: int = 20_000
    """In a blast, and in one process."""
    seconds: float = PACED_SECONDS
    """Of paced frames."""


@dataclass(frozen=True)
class Load:
    """The frames that a client is sent, and how."""

    frames: int
    symbols: int = 1
    pace: Pace | None = None
    tls: bool = False
    compress: bool = False
    binance: bool = False
    """In the words of Binance."""


@dataclass(frozen=True)
class Case:
    """One program with its options."""

    name: str
    program: str
    needs: tuple[str, ...] = ()
    """Distributions that are not among the dependencies of this project."""
    options: dict[str, Any] = field(default_factory=dict)
    load: Load | None = None
    """What our server sends it, or None for a program that needs no server, or the sandbox."""
    sandbox: bool = False
    """It speaks with the simulated exchange."""
    native: bool | None = None
    """With native kernels or without. None: as they are installed."""


@dataclass(frozen=True)
class Group:
    """Cases that are compared with one of them, or with some."""

    name: str
    title: str
    base: str
    figure: str
    """The one that is compared. `columns` are shown beside it."""
    columns: tuple[str, ...]
    cases: tuple[Case, ...]
    beside: tuple[str, ...] = ()
    """Cases that the others are compared with as well."""

    @property
    def bases(self) -> tuple[str, ...]:
        """Return the names of all cases that the others are compared with."""
        return self.base, *self.beside


Row = tuple[str, str, tuple[str, ...]]
"""Name of a client, its program, and what it needs."""

ASYNCIO: Row = ("asyncio", "ours", ())
TRIO: Row = ("trio", "ours", ("trio",))
RUNTIMES: tuple[Row, ...] = (
    ASYNCIO,
    TRIO,
    ("aiohttp", "ours", ("aiohttp",)),
    ("our cryptofeed feed", "cryptofeed_backpack", ("cryptofeed",)),
)
BINANCE: Row = ("cryptofeed's Binance feed", "cryptofeed_binance", ("cryptofeed",))
CCXT: Row = ("ccxt.pro", "ccxt_pro", ("ccxt",))
PEERS: tuple[Row, ...] = (BINANCE, CCXT, ("websockets and msgspec", "bare", ("websockets",)))
FLOOR: Row = ("floor: read, cut, decode", "floor", ())


def _client(name: str, program: str, needs: tuple[str, ...], load: Load, **options: Any) -> Case:
    """Return a case of a client. The name of the row says its runtime."""
    runtime = name.partition(",")[0]
    if program == "cryptofeed_binance":
        load = replace(load, binance=True)
    needs += ("trustme",) if load.tls else ()
    return Case(name, program, needs, {"variant": runtime, **options}, load)


def _both(name: str, program: str, needs: tuple[str, ...], load: Load, **options: Any) -> tuple[Case, Case]:
    """Return a case of a client of ours in pure Python, and one with native kernels."""
    case = _client(name, program, needs, load, **options)
    return (
        replace(case, name=f"{name}, pure Python", native=False),
        replace(case, name=f"{name}, native kernels", native=True),
    )


def _targets(sizes: Sizes) -> tuple[Group, ...]:
    """Return the groups of the targets: our clients beside cryptofeed's feed, which does the same work in the same round."""
    blast, paced = Load(sizes.frames), Load(int(TARGET_PER_SECOND * sizes.seconds), pace=Pace(TARGET_PER_SECOND))
    tls, many = Load(sizes.frames, tls=True), Load(sizes.frames, MANY_SYMBOLS[-1])
    binance, ccxt, floor = BINANCE[0], CCXT[0], FLOOR[0]

    def group(name: str, title: str, columns: tuple[str, ...], *cases: Case, beside: tuple[str, ...] = ()) -> Group:
        return Group(f"targets-{name}", title, binance, US_A_FRAME, columns, cases, beside)

    return (
        group(
            "blast",
            "Frames as fast as the client reads them",
            ("peak_mb",),
            *(_client(*row, blast) for row in (*PEERS, FLOOR)),
            *(case for row in RUNTIMES for case in _both(*row, blast)),
            *_both("asyncio, by batches", *ASYNCIO[1:], blast, fetch="batches"),
            *_both("asyncio, ten levels", *ASYNCIO[1:], blast, levels=10),
            beside=(ccxt,),
        ),
        group(
            "top",
            "The same, and best bid and ask are read at each change of the book",
            (),
            *(_client(*row, blast, top=True) for row in (BINANCE, CCXT)),
            *_both(*ASYNCIO, blast, top=True),
            beside=(ccxt,),
        ),
        group(
            "paced",
            f"{TARGET_PER_SECOND} frames a second, evenly",
            ("p50_us", "p99_us"),
            *(_client(*row, paced, latency=True) for row in (BINANCE, FLOOR)),
            *(case for row in (ASYNCIO, TRIO) for case in _both(*row, paced, latency=True)),
            *_both("trio, by callback", *TRIO[1:], paced, latency=True, fetch="callback"),
            *_both(*RUNTIMES[-1], paced, latency=True),
            beside=(floor,),
        ),
        group(
            "tls",
            "Frames as fast as the client reads them, in TLS with a record a frame",
            (),
            _client(*BINANCE, tls),
            *(case for row in (ASYNCIO, TRIO) for case in _both(*row, tls)),
        ),
        group(
            "symbols",
            f"Frames of {MANY_SYMBOLS[-1]} markets over one socket, all books live",
            ("peak_mb",),
            _client(*BINANCE, many),
            *_both(*ASYNCIO, many),
        ),
    )


def _blast(sizes: Sizes) -> Group:
    plain = Load(sizes.frames)
    cases = []
    for name, program, needs in RUNTIMES:
        cases.append(_client(name, program, needs, plain))
        cases.append(_client(f"{name}, TLS, a record a frame", program, needs, Load(sizes.frames, tls=True)))
        cases.append(
            _client(f"{name}, compressed", program, needs, Load(sizes.frames, compress=True), compression=True),
        )
        cases.append(_client(f"{name}, best bid and ask read", program, needs, plain, top=True))
    title = "Frames as fast as the client reads them: each runtime with what costs more"
    return Group("blast", title, "asyncio", US_A_FRAME, ("peak_mb",), tuple(cases))


def _paced(sizes: Sizes, per_second: int, burst: int) -> Group:
    load = Load(max(int(per_second * sizes.seconds), burst), pace=Pace(per_second, burst))
    cases = tuple(_client(name, program, needs, load, latency=True) for name, program, needs in (*RUNTIMES, *PEERS, FLOOR))
    how = f"in bursts of {burst}" if burst > 1 else "evenly"
    name = f"paced-{per_second}{'-bursts' if burst > 1 else ''}"
    columns = ("p50_us", "p99_us", "p99_9_us", "per_second")
    return Group(name, f"{per_second:,} frames a second, {how}", "asyncio", US_A_FRAME, columns, cases)


def _symbols(sizes: Sizes) -> Group:
    cases = [_client(f"asyncio, {count} books", "ours", (), Load(sizes.frames, count)) for count in (1, *MANY_SYMBOLS)]
    needs = ("cryptofeed",)
    cases += [
        _client(f"our cryptofeed feed, {count} books", "cryptofeed_backpack", needs, Load(sizes.frames, count))
        for count in (1, *MANY_SYMBOLS[:2])
    ]
    columns = ("book_kb", "peak_mb", "start_ms")
    return Group("symbols", "Frames of many markets, all books live", "asyncio, 1 books", US_A_FRAME, columns, tuple(cases))


def _program(name: str, program: str, variant: str, *, needs: tuple[str, ...] = (), **options: Any) -> Case:
    return Case(name, program, needs, {"variant": variant, **options})


def _imports(_: Sizes) -> Group:
    modules = (
        ("backpack_proto:Session", ()),
        ("backpack_runtime:BackpackClient", ()),
        ("backpack_runtime.cryptofeed:BackpackFeed", ("cryptofeed",)),
        ("cryptofeed", ("cryptofeed",)),
        ("ccxt.pro", ("ccxt",)),
        ("bpx.account", ("bpx-py",)),
        ("aiohttp", ("aiohttp",)),
        ("websockets.asyncio.client", ("websockets",)),
    )
    cases = tuple(_program(f"import {module}", "imports", module, needs=needs) for module, needs in modules)
    return Group("imports", "Time to import", "import backpack_runtime:BackpackClient", "import_ms", ("modules",), cases)


def _start(_: Sizes) -> Group:
    few = 1000
    cases = [_client(f"asyncio, {count} books", "ours", (), Load(few, count)) for count in (1, *MANY_SYMBOLS)]
    cases += [_client(name, program, needs, Load(few)) for name, program, needs in (*RUNTIMES[1:], *PEERS)]
    title = "Time from the start of the client until its books are live"
    return Group("start", title, "asyncio, 1 books", "start_ms", ("book_kb",), tuple(cases))


def _core(sizes: Sizes) -> Group:
    cases = (
        _program("book alone", "core", "book", frames=sizes.frames),
        _program("session, a frame a read", "core", "session", frames=sizes.frames),
        _program("session, 100 frames a read", "core", "session-100", frames=sizes.frames),
        _program("json, Decimal, order_book", "core", "usual", needs=("order-book",), frames=sizes.frames),
    )
    title = "The core alone, in one process: decode, check, apply, read best bid and ask"
    return Group("core", title, "session, 100 frames a read", US_A_FRAME, (), cases)


def _layers(sizes: Sizes) -> Group:
    load = Load(sizes.frames)
    cases = (
        _program("frames cut", "framing", "ours", frames=sizes.frames),
        _program("frames decoded", "core", "decode", frames=sizes.frames),
        _program("decoded, checked, applied to the book", "core", "book", frames=sizes.frames),
        _program("the whole session, 100 frames a read", "core", "session-100", frames=sizes.frames),
        _client("asyncio, by callback", *ASYNCIO[1:], load, fetch="callback"),
        _client("asyncio, by batches", *ASYNCIO[1:], load, fetch="batches"),
        _client(*ASYNCIO, load),
        _client(*FLOOR, load),
    )
    return Group("layers", "Where the time of a frame goes, from the inside out", "asyncio", US_A_FRAME, (), cases)


def _framing(sizes: Sizes) -> Group:
    cases = (
        _program("wsproto alone", "framing", "wsproto", frames=sizes.frames),
        _program("our framing", "framing", "ours", frames=sizes.frames),
        _program("our framing, compressed", "framing", "compressed", frames=sizes.frames),
    )
    return Group("framing", "Websocket frames to messages, in one process", "wsproto alone", US_A_FRAME, (), cases)


def _delivery(sizes: Sizes) -> Group:
    names = ("passing changes", "merging changes", "passing trades", "dropping trades", "dropping garbage of many kinds")
    cases = tuple(_program(name, "delivery", name, frames=sizes.frames) for name in names)
    return Group("delivery", "What a queue of events costs", "passing changes", US_A_FRAME, (), cases)


def _handler(sizes: Sizes) -> Group:
    cases = tuple(
        _program(
            f"{name}{', best bid and ask read' if top else ''}",
            "handler",
            variant,
            needs=("cryptofeed",),
            top=top,
            frames=sizes.frames,
        )
        for top in (False, True)
        for name, variant in (("our feed", "backpack"), ("cryptofeed's Binance feed", "binance"))
    )
    return Group("handler", "`message_handler` of a feed of cryptofeed, in one process", "our feed", US_A_FRAME, (), cases)


def _orders(_: Sizes) -> Group:
    clients = (("asyncio", "ours", ()), ("trio", "ours", ("trio",)), ("aiohttp", "ours", ("aiohttp",)))
    cases = [
        Case(name, "orders", needs, {"variant": name, "frames": 60}, sandbox=True)
        for name, _, needs in (*clients, ("ccxt.pro", "", ("ccxt",)), ("bpx-py", "", ("bpx-py",)))
    ]
    columns = ("p50_us", "p99_us")
    title = "An order, from the call to the acknowledgement of the simulated exchange: CPU, and round trip"
    return Group("orders", title, "asyncio", "us_an_order", columns, tuple(cases))


def _signing(_: Sizes) -> Group:
    cases = tuple(
        _program(name, "signing", name, needs=needs, frames=2000)
        for name, needs in (("ours", ()), ("ccxt", ("ccxt",)), ("bpx-py", ("bpx-py",)))
    )
    return Group("signing", "The signed headers of an order", "ours", "us_a_signature", (), cases)


def groups(sizes: Sizes) -> tuple[Group, ...]:
    """Return all groups of these sizes."""
    paced = [_paced(sizes, per_second, burst) for per_second in (1_000, 10_000) for burst in (1, BURST)]
    end_to_end = (*_targets(sizes), _blast(sizes), *paced, _symbols(sizes), _imports(sizes), _start(sizes))
    return (
        *end_to_end,
        _layers(sizes),
        _orders(sizes),
        _signing(sizes),
        _core(sizes),
        _framing(sizes),
        _delivery(sizes),
        _handler(sizes),
    )


GROUPS = tuple(group.name for group in groups(Sizes()))
FIRST_SOUND_CCXT = (4, 5, 90)
FIRST_AIOHTTP_OF_TROUBLE = (3, 14, 4)


def why_not(case: Case, versions: dict[str, str], *, native: bool) -> str | None:
    """Return why a case cannot be run where these versions are installed, perhaps with native kernels, or None if it can."""
    missing = [name for name in case.needs if name not in versions]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    if case.native and not native:
        return "there are no native kernels"
    if case.program == "ccxt_pro":
        ccxt, aiohttp = _numbers(versions["ccxt"]), _numbers(versions.get("aiohttp", "0"))
        if ccxt < FIRST_SOUND_CCXT and aiohttp >= FIRST_AIOHTTP_OF_TROUBLE:
            return f"ccxt {versions['ccxt']} hangs with aiohttp {versions['aiohttp']}: take ccxt 4.5.90, or aiohttp 3.14.3"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
