"""The reasons of lost connections in words: one table from the texts of systems and libraries to those for people."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["in_words"]

# The numbers of the errors differ between systems, and so do some of the words.
_WORDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (
            r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|certificate verify failed",
            "TLS: its certificate is not trusted",
        ),
        (r"\bSSL\w*Error\b|\bTLSV?\d?_|\[SSL\b", "TLS: no secure connection was agreed on"),
        (
            r"gaierror|Name or service not known|name resolution|nodename nor servname|getaddrinfo",
            "its name was not found (DNS)",
        ),
        (r"ConnectionRefusedError|Connection refused|Connect call failed|\[WinError 1225\]", "the connection was refused"),
        (r"Network is unreachable|\[WinError 1231\]", "the network is unreachable"),
        (r"No route to host|Host is unreachable|\[WinError 1232\]", "there is no route to it"),
        (
            r"ConnectionResetError|Connection reset|BrokenPipeError|ConnectionAbortedError",
            "the other side broke the connection",
        ),
        (r"Too many open files", "too many files are open here"),
        (r"\bTimeoutError\b|timed out", "no answer in time"),
        (r"All connection attempts failed", "it could not be reached"),
    )
)
_RAW: Final = re.compile(r"^\w*(?:Error|Exception)(?:: (?:\[\w+ -?\d+\] )?|$)")
_THROUGH: Final = re.compile(r" \(through proxy [^()]*\)$")


def in_words(reason: str) -> str:
    """Return the reason of a lost connection as people say it. One that is in words already stays as it is.

    A proxy that was on the way stays named.
    """
    through = _THROUGH.search(reason)
    way = "" if through is None else through[0]
    said = reason.removesuffix(way)
    if said.startswith("proxy "):
        return reason
    for pattern, words in _WORDS:
        if pattern.search(said):
            return words + way
    return (_RAW.sub("", said) or "the connection failed") + way
