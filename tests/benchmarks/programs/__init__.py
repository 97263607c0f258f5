"""Programs that are measured, each in a process of its own: `python -m tests.benchmarks.programs.NAME OPTIONS`."""
