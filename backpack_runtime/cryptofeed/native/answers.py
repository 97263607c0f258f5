"""Reads answers of REST through cryptofeed's HTTP connection, so that its recordings and players see them."""

from __future__ import annotations

from typing import Any

import aiohttp
from cryptofeed.exceptions import ConnectionClosed

from backpack_proto.inputs import Fact, RequestFailed, ResponseReceived
from backpack_proto.outputs import SendRequest
from backpack_proto.rest.codec import retry_after_us
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.transports.base import Progress, not_sent

__all__ = ["read_answer"]


async def read_answer(http: Any, url: str, action: SendRequest, progress: Progress) -> Fact:
    """Send a request, and return its answer or the failure as a fact."""
    request = action.request
    request_id = action.request_id
    try:
        text = await http.read(url, header=dict(request.headers))
        return ResponseReceived(request_id=request_id, status=200, body=text.encode())
    except aiohttp.ClientResponseError as refused:
        headers = tuple((refused.headers or {}).items())
        return ResponseReceived(
            request_id=request_id,
            status=refused.status,
            body=refused.message.encode(),
            retry_after_us=retry_after_us(headers),
            headers=headers,
        )
    except LookupError:
        # That is how the player of cryptofeed 2 says so.
        return RequestFailed(request_id=request_id, reason="the recording has no answer")
    except ProxyError as failure:
        return not_sent(request_id, failure)
    except (aiohttp.ClientError, ConnectionClosed, OSError, UnicodeDecodeError) as error:
        return RequestFailed(request_id=request_id, reason=f"{type(error).__name__}: {error}", sent=progress.sent)
