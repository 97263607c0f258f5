"""A client served over HTTP: a live dashboard, metrics, health, events and books, for reading only (docs/dashboard.md).

Private data of an account are never served.
"""

from backpack_runtime.extras import MissingExtra

try:
    import aiohttp as _aiohttp  # noqa: F401 - the server
    import prometheus_client as _prometheus_client  # noqa: F401 - the text of /metrics
except ImportError as missing:
    raise MissingExtra("backpack_runtime.serving", "serve", missing) from missing

from .access import checked_token, new_token
from .app import make_app
from .listening import bind, serve_dashboard, serve_on

__all__ = ["bind", "checked_token", "make_app", "new_token", "serve_dashboard", "serve_on"]
