"""Recordings: every input of a session in a file, and the same session driven by it again (docs/recording.md)."""
