"""Programs that are run from a checkout."""
