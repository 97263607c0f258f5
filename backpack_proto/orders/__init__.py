"""Orders that are safe to send: their ids, the record of each that is written before it leaves, and its outcome."""
