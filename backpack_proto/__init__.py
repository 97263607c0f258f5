"""Backpack Exchange, sans-IO."""
