"""A certificate authority for one run, by trustme."""

from __future__ import annotations

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Authority"]


class Authority:
    """TLS for a server on this machine: `context` is the server's, `ca_file` is what a client trusts."""

    def __init__(self) -> None:
        import trustme  # noqa: PLC0415 - an extra, which need not be installed

        self._folder = TemporaryDirectory(prefix="backpack-benchmarks-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.context)

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()
