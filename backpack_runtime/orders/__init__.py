"""Orders that are safe to send: the journal, the ids, the outcome of each, and a way out that leaves none open."""
