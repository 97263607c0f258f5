"""Streams of the exchange: what a channel is, names, payloads, and the frames that carry them."""
