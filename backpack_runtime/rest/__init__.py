"""Typed REST methods of the client, one module for each concern."""
