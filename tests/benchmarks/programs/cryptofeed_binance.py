"""cryptofeed's own feed for Binance over its own connection. The content is the same."""

from __future__ import annotations

from typing import Any

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WSAsyncConn
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols

from .feeds import Callbacks
from .metering import Options, load_options


def main(options: Options) -> None:
    names = {symbol.replace("_", "-"): symbol.replace("_", "") for symbol in options.symbols}

    class Feed(Binance):  # type: ignore[misc]  # cryptofeed has no types
        rest_endpoints = (
            RestEndpoint(options.url("http"), routes=Routes("/exchangeInfo", l2book="/api/v3/depth?symbol={}&limit={}")),
        )

        @classmethod
        def symbol_mapping(cls, *_: Any, **__: Any) -> dict[str, str]:
            return names

        def _address(self) -> Any:
            # A list of addresses with 200 streams each, where there are more: all clients have one socket here.
            found = super()._address()
            if isinstance(found, str):
                return found
            return found[0] + "".join(f"/{address.partition('=')[2]}" for address in found[1:])

    connect = WSAsyncConn.__init__

    def connect_here(self: Any, address: str, *arguments: Any, **options_of_it: Any) -> None:
        # It takes addresses of wss alone when it is made.
        connect(self, address, *arguments, **options_of_it)
        self.address = f"{options.url('ws')}/stream?{address.partition('?')[2]}"

    WSAsyncConn.__init__ = connect_here
    Symbols.set("BINANCE", names, {"instrument_type": dict.fromkeys(names, "spot"), "tick_size": {}})
    callbacks = Callbacks(options, raw_time="us").all()
    feed = Feed(symbols=list(names), channels=list(callbacks), callbacks=callbacks)
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
    handler.add_feed(feed)
    handler.run()


if __name__ == "__main__":
    main(load_options())
