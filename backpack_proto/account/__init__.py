"""The ledger of an account, and the values that streams and REST share."""
