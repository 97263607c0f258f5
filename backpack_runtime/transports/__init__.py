"""One module for each runtime; all of them keep the contract of `backpack_runtime.transport.Transport`."""
