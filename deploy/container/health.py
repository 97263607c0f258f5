"""Health of the container: asks `/health` of the server in it, or another address, and ends with 0 when the answer is 200.

    python health.py [URL]

The token is that of the server: BACKPACK_FEED_TOKEN, or the secret that is mounted at /run/secrets/feed_token.
"""

from __future__ import annotations

import os
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

URL = "http://127.0.0.1:8080/health"
SECRET = Path("/run/secrets/feed_token")
SECONDS = 5.0
EXCERPT = 500


def main(url: str = URL) -> int:
    """Ask once, print the answer, and return the exit code."""
    token = os.environ.get("BACKPACK_FEED_TOKEN") or (SECRET.read_text(encoding="utf-8").strip() if SECRET.is_file() else "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Not through a proxy that is meant for the exchange.
        with build_opener(ProxyHandler({})).open(Request(url, headers=headers), timeout=SECONDS) as answer:  # noqa: S310 - see URL
            status, text = answer.status, answer.read(EXCERPT)
    except HTTPError as refusal:
        with refusal:
            status, text = refusal.code, refusal.read(EXCERPT)
    except (URLError, OSError) as error:
        print(f"{url} cannot be reached: {error}")
        return 1
    print(status, text.decode(errors="replace"))
    if status == HTTPStatus.UNAUTHORIZED:
        print("set BACKPACK_FEED_TOKEN, or mount the secret feed_token: the server has made a token that is not known here")
    return 0 if status == HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
