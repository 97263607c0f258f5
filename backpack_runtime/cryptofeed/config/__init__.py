"""Settings of a feed, and where they come from."""
