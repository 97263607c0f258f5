"""`python -m tools.backpack_auth_check`: the same as `backpack-feed auth-check`."""

from __future__ import annotations

import sys

from backpack_runtime.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["auth-check", *sys.argv[1:]]))
