"""The signed headers of an order. The variant is the library: `ours`, `ccxt` or `bpx-py`."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time_ns

from backpack_proto import Credentials, HttpRequest, Signer
from backpack_proto.auth.keys import THROWAWAY_SECRET

from .metering import load_options, report

ORDER = {"orderType": "Limit", "price": "98.50", "quantity": "2", "side": "Bid", "symbol": "SOL_USDC", "timeInForce": "GTC"}
UNIX_US = 1_790_000_000_000_000
WARM = 20


def ours() -> Callable[[], object]:
    signer = Signer(Credentials(THROWAWAY_SECRET))
    request = HttpRequest(method="POST", target="/api/v1/order")
    return lambda: signer.headers(request, instruction="orderExecute", parameters=ORDER, unix_us=UNIX_US)


def ccxt() -> Callable[[], object]:
    from ccxt import backpack  # noqa: PLC0415 - other variants do without

    exchange = backpack({"apiKey": Credentials(THROWAWAY_SECRET).api_key, "secret": THROWAWAY_SECRET})
    exchange.urls["api"] = {"private": "https://api.backpack.exchange"}
    return lambda: exchange.sign("api/v1/order", ["private"], "POST", ORDER)


def bpx() -> Callable[[], object]:
    from bpx.account import Account  # noqa: PLC0415 - other variants do without

    account = Account(Credentials(THROWAWAY_SECRET).api_key, THROWAWAY_SECRET)
    return lambda: account._headers(ORDER, "orderExecute", window=5000)


def main() -> None:
    options = load_options()
    sign = {"ours": ours, "ccxt": ccxt, "bpx-py": bpx}[options.variant]()
    for _ in range(WARM):
        sign()
    began = process_time_ns()
    for _ in range(options.frames):
        assert sign()
    spent = process_time_ns() - began
    report(done=True, events=options.frames, us_a_signature=spent / 1000 / options.frames)


if __name__ == "__main__":
    main()
