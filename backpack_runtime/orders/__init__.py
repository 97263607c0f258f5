"""Orders that are safe to send: the journal, the ids, what became of an order, and leaving none behind."""
