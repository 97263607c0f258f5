"""The endpoint table: which REST calls exist (docs/protocol.md 2.4, 6.1).

A row is all that there is to know about a call: `rest` builds requests and reads answers by it. An endpoint with an instruction is
private, so its requests are signed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import did_you_mean, shown

from .account import ACCOUNT_ENDPOINTS
from .history import HISTORY_ENDPOINTS
from .orders import ORDER_ENDPOINTS
from .public import DEPTH_LIMITS, PUBLIC_ENDPOINTS
from .rules import BATCH, BATCH_LIMIT, Checked, Endpoint, Group, ParameterRule

__all__ = [
    "BATCH",
    "BATCH_LIMIT",
    "DEPTH_LIMITS",
    "ENDPOINTS",
    "Checked",
    "Endpoint",
    "Group",
    "ParameterRule",
    "find_endpoint",
]

ENDPOINTS: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {endpoint.name: endpoint for endpoint in (*PUBLIC_ENDPOINTS, *ACCOUNT_ENDPOINTS, *ORDER_ENDPOINTS, *HISTORY_ENDPOINTS)}
)
"""Every call, by its name."""

_USES = Counter(endpoint.instruction for endpoint in ENDPOINTS.values())
_BY_ANY_NAME: Final[Mapping[str, Endpoint]] = {
    **{former: endpoint for endpoint in ENDPOINTS.values() for former in endpoint.former},
    **{endpoint.instruction: endpoint for endpoint in ENDPOINTS.values() if endpoint.instruction is not None},
    **{endpoint.route: endpoint for endpoint in ENDPOINTS.values()},
    **ENDPOINTS,
}


def find_endpoint(name: str) -> Endpoint:
    """Return the endpoint with this name, this instruction, or this method and path, such as `GET /api/v1/depth`.

    The names and routes that an endpoint had before it was renamed lead to it as well.

    Raises:
        LocalProtocolError: it does not exist, and the text offers the closest names. Or an instruction stands for several.
    """
    endpoint = _BY_ANY_NAME.get(name)
    if endpoint is None:
        hint = did_you_mean(name, _BY_ANY_NAME) or f"; there are {', '.join(ENDPOINTS)}"
        raise LocalProtocolError(f"there is no endpoint {shown(name)}{hint}")
    if name == endpoint.instruction and name not in ENDPOINTS and _USES[name] > 1:
        several = [other.name for other in ENDPOINTS.values() if other.instruction == name]
        raise LocalProtocolError(f"{name} is the instruction of {', '.join(several)}: say which")
    return endpoint
