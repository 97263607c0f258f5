"""Checks of a key: which signed calls that only read are answered, and whether private streams are. It only reads."""

from __future__ import annotations

from typing import Final

from backpack_proto.errors import ApiError, BackpackError, LocalProtocolError, PartlyUnreadable
from backpack_proto.outputs import StreamsRefused

from .findings import Finding, failed, ok, skipped, warning
from .subject import Subject

__all__ = ["READS", "account_reads", "private_streams"]

READS: Final = (
    "account",
    "balances",
    "collateral",
    "positions",
    "open_orders",
    "order_history",
    "fill_history",
    "deposits",
    "withdrawals",
    "borrow_lend_positions",
)
"""Signed calls without a parameter that has to be given, each of which only reads."""
NO_KEY = "no key was given: --key-file or BACKPACK_PRIVATE_KEY"
REFUSAL_SECONDS = 2.0
"""A subscription that is good is never acknowledged. A refusal comes at once."""


async def account_reads(subject: Subject) -> Finding:
    """Make signed calls that read, and say which of them are refused, and in which words."""
    if subject.signer is None:
        return skipped(NO_KEY)
    allowed, refused, troubles = [], [], []
    for name in READS:
        try:
            await subject.client.call(name)
        except ApiError as error:
            refused.append(f"{name} ({error.status} {error.code or 'no code'}: {error.message})")
        except PartlyUnreadable as error:
            allowed.append(name)
            troubles.append(str(error))
        except LocalProtocolError:
            raise
        except BackpackError as error:
            troubles.append(f"{name} has no answer ({error})")
        else:
            allowed.append(name)
    figures = {"allowed": allowed, "refused": [text.partition(" ")[0] for text in refused], "words": refused}
    if not allowed:
        why = f"every signed call is refused: {refused[0]}" if refused else f"no signed call is answered: {troubles[0]}"
        return failed(why, **figures)
    objections = [*([f"refused: {', '.join(refused)}"] if refused else []), *troubles]
    text = "; ".join(
        [
            f"{len(allowed)} of {len(READS)} reads are answered: {', '.join(allowed)}",
            *objections,
            "whether it may trade was not tried",
        ]
    )
    if "account" not in allowed:
        return failed(f"the account cannot be read; {text}", **figures)
    return warning(text, **figures) if objections else ok(text, **figures)


async def private_streams(subject: Subject) -> Finding:
    """Subscribe the account's streams, and wait for a refusal."""
    if subject.signer is None:
        return skipped(NO_KEY)
    watch = subject.watch
    await subject.client.subscribe(["order.*", "position.*", "balance.*"], [])

    def refusals() -> list[StreamsRefused]:
        return [refusal for refusal in watch.said(StreamsRefused) if refusal.authentication]

    await watch.until(lambda: bool(refusals()), REFUSAL_SECONDS)
    if refusals():
        return failed(f"refused: {refusals()[0].code} {refusals()[0].message}", code=refusals()[0].code)
    return ok(f"orders, positions and balances: not refused within {REFUSAL_SECONDS:g} s", code=None)
