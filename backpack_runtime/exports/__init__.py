"""Events as tables: trades, best bids and asks, incremental books, states of books and candles, as CSV or Parquet (docs/export.md)."""

from __future__ import annotations

from .export import Exported, ExportedFile, ExportFailed, export_events

__all__ = ["ExportFailed", "Exported", "ExportedFile", "export_events"]
