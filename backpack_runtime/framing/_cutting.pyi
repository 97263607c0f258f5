# The native twin of what frames.py has in Python: docs/kernels.md.
