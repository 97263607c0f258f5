"""`account` asks with its keys, and ends when they are refused. The processes are in the integration tests."""

from __future__ import annotations

import pytest

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError
from backpack_proto.exchange import parse_faults
from backpack_runtime.cli.account import _ask
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.settings import Settings

FOREIGN = Credentials("1" * 64)


@pytest.mark.anyio
async def test_foreign_keys_are_named_and_known_ones_pass() -> None:
    async with serve_sandbox() as sandbox:
        settings = Settings(rest_url=sandbox.rest_url, ws_url=sandbox.ws_url)
        async with BackpackClient(settings=settings, signer=Signer(FOREIGN), streams=False) as client:
            with pytest.raises(BackpackError, match=r"^here refused the API key 0EqyMnQ\S+=: .*401") as refused:
                await _ask(client, FOREIGN, "here")
            assert "1" * 64 not in str(refused.value)
        known = Credentials(THROWAWAY_SECRET)
        async with BackpackClient(settings=settings, signer=Signer(known), streams=False) as client:
            await _ask(client, known, "here")


@pytest.mark.anyio
async def test_a_signature_that_is_refused_as_too_old_is_no_matter_of_the_keys() -> None:
    async with serve_sandbox(faults=parse_faults("expired@0-60")) as sandbox:
        settings = Settings(rest_url=sandbox.rest_url, ws_url=sandbox.ws_url)
        known = Credentials(THROWAWAY_SECRET)
        async with BackpackClient(settings=settings, signer=Signer(known), streams=False) as client:
            with pytest.raises(BackpackError, match="expired"):
                await client.call("balances")
            await _ask(client, known, "here")
