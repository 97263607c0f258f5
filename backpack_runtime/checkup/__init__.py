"""The checkup: a minute of facts about this machine, the way to the exchange, the exchange itself, and a key.

`table.CHECKS` is the list of checks, in their order. Each is one function of `local`, `way`, `calls`, `streams` or `keys`, which takes the
`Subject` and returns a `Finding`. `run.check_all` runs them and gives a `Row` for each. It reads and never changes anything.
"""
