# The native twin of what side.py has in Python: docs/kernels.md.
