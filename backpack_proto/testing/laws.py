"""Tools for tests of a machine: the machine laws as a suite, and a clock that moves only when told to.

`check_machine` runs any machine through random traces and checks the laws that every machine of this project keeps, those of
third parties that want to join a session included. It needs the extra `testing`, which is loaded when it is called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, StrEnum
from random import Random
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from msgspec import Struct

from backpack_proto.errors import LocalProtocolError
from backpack_proto.extras import MissingExtra
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Machine, Now

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["FakeClock", "Law", "LawBroken", "check_machine", "freeze"]


class FakeClock:
    """Both clocks of `Now`, moved by hand.

    They start far from each other and from zero, so a machine that measures a deadline on the wall clock, or signs with the
    monotonic one, is seen at once. Both attributes may be set: a wall clock does jump.
    """

    def __init__(self, *, mono_us: int = 271_828_182_845, unix_us: int = 1_788_367_430_000_000) -> None:
        self.mono_us = mono_us
        self.unix_us = unix_us

    @property
    def now(self) -> Now:
        """This moment."""
        return Now(self.mono_us, self.unix_us)

    def advance(self, us: int) -> Now:
        """Move both clocks on by `us` microseconds and return the new moment.

        Raises:
            LocalProtocolError: `us` is negative.
        """
        if us < 0:
            raise LocalProtocolError(f"a monotonic clock does not go back by {-us} us")
        self.mono_us += us
        self.unix_us += us
        return self.now

    def advance_to(self, mono_us: int | None) -> Now:
        """Move on to a deadline, as a runtime that waits for it does. One that has passed has no effect.

        Raises:
            LocalProtocolError: the deadline is None, so there is no moment to wait for.
        """
        if mono_us is None:
            raise LocalProtocolError("no deadline to wait for")
        return self.advance(max(0, mono_us - self.mono_us))


class Law(StrEnum):
    """Laws of every machine."""

    PURE_DEADLINE = "reading the deadline changes nothing"
    SPURIOUS_TIMER = "an early or spurious TimerFired returns nothing and changes nothing"
    TIMER_MOVES_ON = "after a TimerFired at or behind the deadline, the next deadline is in the future or None"
    REFUSAL = "a refused input leaves no trace"
    REPLAY = "the same trace gives the same outputs"
    CLOCKS = "a deadline does not depend on the wall clock"


_ADVICE: Final = {
    Law.PURE_DEADLINE: "let the property return a value that `handle` has stored",
    Law.SPURIOUS_TIMER: "begin with `if isinstance(given, TimerFired) and not due(self.deadline, now): return []`",
    Law.TIMER_MOVES_ON: "when the timer fires, set the deadline to None or count it from `now.mono_us`, never from the old deadline alone",
    Law.REFUSAL: "raise `LocalProtocolError` before anything is changed",
    Law.REPLAY: "draw from a `random.Random` that `make` seeds alike, iterate over no set, and keep no state in the class or the module",
    Law.CLOCKS: "count deadlines from `now.mono_us`; `now.unix_us` is for what people and the exchange are told",
}
"""Advice on each law."""


class LawBroken(AssertionError):
    """A machine broke a law.

    `law` says which, and `trace` holds the inputs and moments that lead there: the last one broke it. The text shows both, and how the
    law is kept.
    """

    def __init__(self, law: Law, detail: str, trace: Sequence[tuple[Any, Now]]) -> None:
        super().__init__(f"{law}: {detail}\n{_render(trace)}\nto keep the law: {_ADVICE[law]}")
        self.law = law
        self.trace = tuple(trace)


class _FireAtDeadline(Struct, frozen=True, gc=False):
    """A step that waits for the machine's deadline, as a runtime does, and fires the timer so much later."""

    late_us: int


_Make: TypeAlias = Callable[[], Machine[Any, Any]]
_Trace: TypeAlias = list[tuple[Any, Now]]

_TIMERS_AT_THE_END = 8
_ANOTHER_WALL_CLOCK_US = 123_456_789_012_345


def check_machine(
    make: _Make,
    inputs: SearchStrategy[Any],
    *,
    max_gap_us: int = 150_000_000,
    max_steps: int = 30,
    max_examples: int | None = None,
) -> None:
    """Check the laws of a machine on random traces. The shortest trace that breaks one is reported.

    `make` returns a new machine that is made alike each time (randomness seeded alike). `inputs` draws its inputs. Inputs that
    it refuses in some states are welcome, and `TimerFired` is added by itself: early, at the deadline and late. Inputs lie up to
    `max_gap_us` apart. How many traces are tried, at random or the same ones each time, and where those that failed are kept, is
    up to the loaded profile of hypothesis. `max_examples` replaces its number.

    Raises:
        MissingExtra: hypothesis is not installed.
        LocalProtocolError: `make` does not give a machine, or gives the same one twice, or `inputs` is not a strategy of hypothesis.
        LawBroken: naming the law, with the trace and how the law is kept.
        Exception: any error but a `LocalProtocolError` that the machine raises, with the trace as a note.
    """
    try:
        from hypothesis import Phase, given, settings  # noqa: PLC0415 - only those who test need it
        from hypothesis import strategies as st  # noqa: PLC0415 - as above
    except ImportError as missing:
        raise MissingExtra("check_machine", "testing", missing) from missing

    if not isinstance(inputs, st.SearchStrategy):
        raise LocalProtocolError(
            f"inputs: a strategy of hypothesis, such as st.sampled_from([...]), got {type(inputs).__name__}"
        )
    _check_maker(make)
    gaps = st.just(0) | st.integers(0, max_gap_us)
    step = st.tuples(inputs, gaps) | st.builds(_FireAtDeadline, late_us=gaps).map(lambda fire: (fire, 0))
    start = st.builds(Now, st.integers(0, 10**12), st.integers(10**15, 2 * 10**15))

    @settings(
        max_examples=settings().max_examples if max_examples is None else max_examples,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        deadline=None,
        report_multiple_bugs=False,
    )
    @given(st.lists(step, max_size=max_steps), start)
    def laws(steps: list[tuple[Any, int]], start: Now) -> None:
        run = _Run(make())
        run.play(steps, start)
        again, deadlines = _replay(make(), run.trace, 0)
        if again != run.results:
            first = next(i for i, (one, other) in enumerate(zip(again, run.results, strict=True)) if one != other)
            detail = f"the last step gave {_brief(run.results[first])}, then {_brief(again[first])}"
            raise LawBroken(Law.REPLAY, detail, run.trace[: first + 1])
        _, elsewhen = _replay(make(), run.trace, _ANOTHER_WALL_CLOCK_US)
        if elsewhen != deadlines:
            first = next(i for i, (one, other) in enumerate(zip(elsewhen, deadlines, strict=True)) if one != other)
            detail = f"the last step left deadline {deadlines[first]}, with another wall clock {elsewhen[first]}"
            raise LawBroken(Law.CLOCKS, detail, run.trace[: first + 1])

    laws()


def _check_maker(make: _Make) -> None:
    machine = make()
    if not hasattr(machine, "deadline") or not callable(getattr(machine, "handle", None)):
        raise LocalProtocolError(f"make: returns a machine, with `deadline` and `handle`, got {type(machine).__name__}")
    if make() is machine:
        raise LocalProtocolError("make: returns a new machine at each call, got the same one twice")


class _Run:
    """One machine on its way through one trace."""

    def __init__(self, machine: Machine[Any, Any]) -> None:
        self.machine = machine
        self.trace: _Trace = []
        self.results: list[list[Any] | LocalProtocolError] = []
        self._state = freeze(machine)

    def play(self, steps: Sequence[tuple[Any, int]], start: Now) -> None:
        mono_us, unix_us = start
        fire_on = [(_FireAtDeadline(late_us=0), 0)] * _TIMERS_AT_THE_END
        for given, gap_us in (*steps, *fire_on):
            deadline = self._deadline()
            if isinstance(given, _FireAtDeadline):
                if deadline is None:
                    continue
                gap_us, given = max(0, deadline - mono_us) + given.late_us, TimerFired()  # noqa: PLW2901 - made concrete
            mono_us, unix_us = mono_us + gap_us, unix_us + gap_us
            now = Now(mono_us, unix_us)
            if deadline is None or mono_us < deadline:
                self._fire_early(now)
            if not isinstance(given, TimerFired):
                self._give(given, now)
            elif deadline is not None and deadline <= mono_us:
                self._fire(deadline, now)

    def _deadline(self) -> int | None:
        deadline = self.machine.deadline
        if self.machine.deadline != deadline:
            raise LawBroken(Law.PURE_DEADLINE, "two reads gave two deadlines", self.trace)
        self._unchanged(Law.PURE_DEADLINE)
        return deadline

    def _fire_early(self, now: Now) -> None:
        self.trace.append((TimerFired(), now))
        result = _give(self.machine, TimerFired(), now, self.trace)
        if result != []:
            raise LawBroken(Law.SPURIOUS_TIMER, f"the last step gave {_brief(result)}", self.trace)
        self._unchanged(Law.SPURIOUS_TIMER)
        # It had no effect, so it has no place in the trace, and the replay does without it.
        self.trace.pop()

    def _give(self, given: Any, now: Now) -> None:
        self.trace.append((given, now))
        result = _give(self.machine, given, now, self.trace)
        if isinstance(result, LocalProtocolError):
            self._unchanged(Law.REFUSAL)
        else:
            self._state = freeze(self.machine)
        self.results.append(result)

    def _fire(self, deadline: int, now: Now) -> None:
        self.trace.append((TimerFired(), now))
        result = _give(self.machine, TimerFired(), now, self.trace)
        if isinstance(result, LocalProtocolError):
            raise LawBroken(Law.TIMER_MOVES_ON, f"the timer of deadline {deadline} was refused: {result}", self.trace)
        self._state = freeze(self.machine)
        following = self._deadline()
        if following is not None and following <= now.mono_us:
            detail = f"it is {now.mono_us}, the deadline was {deadline} and is {following}"
            raise LawBroken(Law.TIMER_MOVES_ON, detail, self.trace)
        self.results.append(result)

    def _unchanged(self, law: Law) -> None:
        state = freeze(self.machine)
        if state != self._state:
            raise LawBroken(law, f"changed: {_changed(self._state, state)}", self.trace)


def _give(machine: Machine[Any, Any], given: Any, now: Now, trace: _Trace) -> list[Any] | LocalProtocolError:
    try:
        return list(machine.handle(given, now))
    except LocalProtocolError as refusal:
        return refusal
    except Exception as error:
        error.add_note(_render(trace))
        raise


def _replay(
    machine: Machine[Any, Any], trace: _Trace, wall_shift_us: int
) -> tuple[list[list[Any] | LocalProtocolError], list[int | None]]:
    results, deadlines = [], []
    for given, now in trace:
        results.append(_give(machine, given, Now(now.mono_us, now.unix_us + wall_shift_us), trace))
        deadlines.append(machine.deadline)
    return results, deadlines


def _render(trace: Sequence[tuple[Any, Now]]) -> str:
    lines = [f"  mono_us={now.mono_us} unix_us={now.unix_us} {given!r}" for given, now in trace]
    return "\n".join(["trace:", *(lines or ["  (nothing was given yet)"])])


def _brief(result: list[Any] | LocalProtocolError) -> str:
    return f"a refusal ({result})" if isinstance(result, LocalProtocolError) else repr(result)


_OPAQUE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)
_PLAIN = (str, bytes, int, float, Enum, type(None))
_FrozenObject: TypeAlias = tuple[str, object, tuple[tuple[str, object], ...]]
"""Name of the class, contents, attributes."""


def freeze(value: object) -> object:
    """The whole state of a value, nested, as a copy that compares with `==`.

    Dicts keep their order, for it can reach an output. Functions, methods and classes count by identity. The contents of a closure or a
    running generator are not seen.
    """
    return _freeze(value, ())


def _freeze(value: object, path: tuple[int, ...]) -> object:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, _OPAQUE):
        return ("the same as", id(value))
    if id(value) in path:
        return ("the one around", len(path) - path.index(id(value)))
    inner = (*path, id(value))
    contents: object = None
    if isinstance(value, dict):
        contents = tuple((_freeze(key, inner), _freeze(item, inner)) for key, item in value.items())
    elif isinstance(value, list | tuple | deque):
        contents = tuple(_freeze(item, inner) for item in value)
    elif isinstance(value, set | frozenset):
        contents = frozenset(_freeze(item, inner) for item in value)
    elif isinstance(value, Random):
        contents = value.getstate()
    elif isinstance(value, BaseException):
        contents = _freeze(value.args, inner)
    attributes = tuple((name, _freeze(item, inner)) for name, item in _attributes(value).items())
    if contents is None and not attributes:
        contents = repr(value)
    return (type(value).__qualname__, contents, attributes)


def _attributes(value: object) -> dict[str, object]:
    names: list[str] = [*getattr(value, "__struct_fields__", ())]
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            hidden = slot.startswith("__") and not slot.endswith("__")
            names.append(f"_{cls.__name__.lstrip('_')}{slot}" if hidden else slot)
    found = {name: getattr(value, name) for name in names if name not in {"__dict__", "__weakref__"} and hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _changed(before: object, after: object) -> str:
    """Which attributes of a frozen machine differ."""
    (_, _, olds), (_, _, news) = cast(tuple[_FrozenObject, _FrozenObject], (before, after))
    old, new = dict(olds), dict(news)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(names) or "its contents"
