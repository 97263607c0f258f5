"""Time to import the module, or the name in one (`module:name`), that the variant tells, into an interpreter that has nothing but itself."""

from __future__ import annotations

import importlib
import json
import sys
from time import perf_counter_ns


def main() -> None:
    # Not by the other modules of this package: what they import would be there already.
    module, _, name = json.loads(sys.argv[1])["variant"].partition(":")
    known = len(sys.modules)
    began = perf_counter_ns()
    found = importlib.import_module(module)
    if name:
        # A package may load what it exports when it is asked for.
        getattr(found, name)
    spent = perf_counter_ns() - began
    print(json.dumps({"done": True, "import_ms": spent / 1e6, "modules": len(sys.modules) - known}), flush=True)


if __name__ == "__main__":
    main()
