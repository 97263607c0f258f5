"""The feed by ccxt, the one to compare with."""
