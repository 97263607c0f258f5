"""Typed answers of REST calls."""
