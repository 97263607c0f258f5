"""Streams of the exchange: channels, names, payloads, and the frames that carry them."""
