"""The file of a journal, and the numbers of instances."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from backpack_proto.errors import ConfigurationError
from backpack_proto.orders.intents import (
    COUNTERS,
    IdReserved,
    IntentEnded,
    IntentOutcome,
    Intents,
    OrderIntent,
    encode_rows,
    read_rows,
)
from backpack_runtime.orders import journal as journal_module
from backpack_runtime.orders.instances import BLOCK, Lease, lease_folder
from backpack_runtime.orders.journal import Durability, Journal, JournalFailed

pytestmark = pytest.mark.anyio


def intent(client_id: int) -> OrderIntent:
    return OrderIntent(
        client_id=client_id, symbol="SOL_USDC", signed_ms=1_788_367_430_000, window_ms=5_000, order={"clientId": client_id}
    )


def opened(
    path: Path | None,
    *,
    instance: int = 0,
    last_id: int | None = None,
    random_id: int = 1_000,
    account: str = "key",
    durability: Durability = Durability.PROCESS,
) -> Journal:
    return Journal.open(path, instance=instance, last_id=last_id, random_id=random_id, account=account, durability=durability)


def placed(client_id: int) -> IntentEnded:
    return IntentEnded(client_id=client_id, outcome=IntentOutcome.PLACED, order_id="28")


def test_what_is_written_is_there_for_the_next_program(tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    first = opened(path)
    first.write([intent(1001), intent(1002)])
    first.note([placed(1001)])
    assert read_rows(path.read_bytes())[1:] == [intent(1001), intent(1002), placed(1001)], "before it is closed"
    first.close()
    second = opened(path)
    assert second.intents.open == {1002: intent(1002)}
    assert second.intents.next_id() == 1003


def _ends(data: bytes) -> list[int]:
    """Where the lines end."""
    return [number + 1 for number, byte in enumerate(data) if byte == ord("\n")]


def test_a_journal_that_was_cut_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    first = opened(path)
    first.write([intent(1001), intent(1002)])
    first.note([placed(1001)])
    first.close()
    whole = path.read_bytes()
    # At every byte: `test_a_journal_that_was_cut_at_any_byte_reads_back_as_the_rows_that_were_whole`.
    for cut in sorted({*range(0, len(whole), 40), *(end + at for end in _ends(whole) for at in (-1, 0))}):
        path.write_bytes(whole[:cut])
        kept = Intents(0)
        for row in read_rows(whole[:cut]):
            kept.take(row)
        second = opened(path)
        second.write([intent(7)])
        second.close()
        third = opened(path)
        assert dict(third.intents.open) == {**kept.open, 7: intent(7)}
        third.close()


def test_a_journal_says_no_more_than_it_has_to_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    first = opened(path)
    for client_id in range(1001, 1101):
        first.write([intent(client_id)])
        first.note([placed(client_id)])
    first.write([IdReserved(client_id=5)])
    first.close()
    opened(path).close()
    (began,) = read_rows(path.read_bytes())
    assert (began.last_id, began.reserved) == (1100, (5,))  # type: ignore[union-attr]


def test_two_programs_cannot_have_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    first = opened(path)
    with pytest.raises(ConfigurationError, match=rf"journal: {path} is in use by another client or program"):
        opened(path)
    first.close()
    opened(path).close()


def test_the_orders_of_another_key_are_not_looked_for_with_this_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    first = opened(path, account="one")
    first.write([intent(1001)])
    first.close()
    with pytest.raises(ConfigurationError, match="holds 1 orders of another key whose outcome is not known"):
        opened(path, account="two")
    mended = opened(path, account="one")
    mended.note([placed(1001)])
    mended.close()
    opened(path, account="two").close()


def test_a_journal_without_a_path_is_in_memory() -> None:
    journal = opened(None, last_id=5)
    journal.write([intent(6)])
    assert journal.path is None
    assert list(journal.intents.open) == [6]
    assert journal.intents.next_id() == 7


@pytest.mark.parametrize(("last_id", "expected"), [(None, 1_001), (40, 41)])
def test_the_ids_go_on_behind_those_that_the_machine_knows_of_and_else_at_random(
    tmp_path: Path, last_id: int | None, expected: int
) -> None:
    assert opened(tmp_path / "j", last_id=last_id).intents.next_id() == expected


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"journal: .*file/j cannot be locked: File exists"):
        opened(tmp_path / "file" / "j")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=r"journal: .*folder cannot be used: Is a directory"):
        opened(tmp_path / "folder")


@pytest.mark.parametrize("fate", ["removed", "moved", "replaced"])
def test_a_row_is_not_written_where_the_next_program_will_not_look(tmp_path: Path, fate: str) -> None:
    path = tmp_path / "orders.journal"
    journal = opened(path)
    journal.write([intent(1001)])
    if fate == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "orders.journal.1")
    if fate == "replaced":
        path.write_text("")
    message = "is another file by now" if fate == "replaced" else "cannot be written: No such file or directory"
    with pytest.raises(JournalFailed, match=message):
        journal.write([intent(1002)])
    assert list(journal.intents.open) == [1001]
    journal.close()


def test_a_program_may_go_to_another_folder_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = opened(Path("orders.journal"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.write([intent(1001)])
    journal.close()
    assert read_rows((tmp_path / "orders.journal").read_bytes())[1:] == [intent(1001)]


def test_a_full_disk_takes_no_part_of_a_row_and_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.journal"
    journal = opened(path)
    before = path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    with pytest.raises(JournalFailed, match=r"took 10 of \d+ bytes; is the disk full\?"):
        journal.write([intent(1001)])
    assert path.read_bytes() == before
    assert journal.intents.open == {}
    monkeypatch.undo()
    journal.write([intent(1002)])
    assert read_rows(path.read_bytes())[1:] == [intent(1002)]


def test_an_outcome_that_cannot_be_written_is_known_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path / "orders.journal")
    journal.write([intent(1001)])

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    journal.note([placed(1001)])
    assert journal.intents.open == {}
    assert journal.trouble is not None
    assert "No space left on device" in journal.trouble
    monkeypatch.undo()
    journal.write([intent(1002)])
    journal.note([placed(1002)])
    assert journal.trouble is None


async def test_one_call_of_the_system_serves_all_who_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = 0

    def sync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        os.fsync(descriptor)

    monkeypatch.setattr(journal_module, "sync_data", sync)
    journal = opened(tmp_path / "orders.journal", durability=Durability.MACHINE)
    done = []

    async def one(client_id: int) -> None:
        journal.write([intent(client_id)])
        await journal.settle()
        done.append(client_id)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for client_id in range(100):
                tasks.start_soon(one, client_id)
    assert sorted(done) == list(range(100))
    assert synced <= 2, "one for the first, one for all that were written meanwhile"


async def test_a_disk_that_refuses_is_said_to_everybody_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = opened(tmp_path / "orders.journal", durability=Durability.MACHINE)
    monkeypatch.setattr(journal_module, "sync_data", refuse)
    failed = []

    async def one(client_id: int) -> None:
        journal.write([intent(client_id)])
        with pytest.raises(JournalFailed, match="Input/output error"):
            await journal.settle()
        failed.append(client_id)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, 1)
            tasks.start_soon(one, 2)
    assert sorted(failed) == [1, 2]


def test_programs_on_one_machine_have_numbers_of_their_own(tmp_path: Path) -> None:
    first, second = Lease.take(tmp_path, None), Lease.take(tmp_path, None)
    assert (first.instance, second.instance) == (0, 1)
    with pytest.raises(ConfigurationError, match="instance: 1 is in use by another client or program on this machine"):
        Lease.take(tmp_path, 1)
    first.release()
    assert Lease.take(tmp_path, None).instance == 0


def test_the_next_program_with_a_number_has_other_ids(tmp_path: Path) -> None:
    first = Lease.take(tmp_path, 3)
    assert first.last_id is None
    for counter in (10, 11, 10 + BLOCK):
        first.cover(3 * COUNTERS + counter)
    first.release()
    second = Lease.take(tmp_path, 3)
    assert second.last_id == 3 * COUNTERS + 10 + 2 * BLOCK
    second.cover(4 * COUNTERS - 1)
    second.release()
    assert Lease.take(tmp_path, 3).last_id == 3 * COUNTERS + BLOCK - 1, "round the end"


def test_a_number_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from backpack_runtime.orders.instances import Lease\n"
        "lease = Lease.take(pathlib.Path(sys.argv[1]), None); print(lease.instance, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "0\n"
        with pytest.raises(ConfigurationError, match="instance: 0 is in use"):
            Lease.take(tmp_path, 0)
        holder.kill()
    assert Lease.take(tmp_path, 0).instance == 0


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="set BACKPACK_STATE_DIR to a folder that can"):
        Lease.take(file / "instances", None)


def test_the_leases_lie_where_the_system_keeps_state() -> None:
    assert lease_folder({"BACKPACK_STATE_DIR": "/own", "XDG_STATE_HOME": "/state"}) == Path("/own/instances")
    assert lease_folder({"XDG_STATE_HOME": "/state"}) == Path("/state/backpack-feed/instances")
    assert lease_folder({}) == Path.home() / ".local/state/backpack-feed/instances"


def test_rows_are_lines_that_people_can_read() -> None:
    assert encode_rows([placed(7)]) == b'{"row":"ended","client_id":7,"outcome":"placed","order_id":"28"}\n'
