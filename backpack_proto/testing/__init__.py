"""Tools to test machines and programs (docs/testing.md).

The laws of machines (`check_machine`), a session joined with the simulated exchange (`Simulation`), faults on the way between the two
(`Episode`), and whole histories of a book with the truth beside them (`BookHistory`). `backpack_proto.testing.strategies` has strategies for
hypothesis, which needs the extra `testing`. So does `check_machine`. The names here are public.
"""

from __future__ import annotations

from .faults import FAULTS, Episode, FaultName
from .histories import BookHistory, FrameFault
from .laws import FakeClock, Law, LawBroken, check_machine, freeze
from .simulation import Simulation
from .wire import encode_frame

__all__ = [
    "FAULTS",
    "BookHistory",
    "Episode",
    "FakeClock",
    "FaultName",
    "FrameFault",
    "Law",
    "LawBroken",
    "Simulation",
    "check_machine",
    "encode_frame",
    "freeze",
]
