"""Our feed for cryptofeed."""

from __future__ import annotations

from cryptofeed import FeedHandler

from backpack_runtime.cryptofeed import BackpackConfig, BackpackFeed

from .feeds import Callbacks
from .kernels import check_kernels
from .metering import Options, load_options


def main(options: Options) -> None:
    check_kernels(options)
    settings = BackpackConfig(use_sandbox=True, sandbox_url=options.url("http"), ca_file=options.ca_file)
    callbacks = Callbacks(options).all()
    symbols = [symbol.replace("_", "-") for symbol in options.symbols]
    feed = BackpackFeed(config=settings, symbols=symbols, channels=list(callbacks), callbacks=callbacks)
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
    handler.add_feed(feed)
    handler.run()


if __name__ == "__main__":
    main(load_options())
