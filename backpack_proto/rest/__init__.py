"""REST: request budget, exchange clock, requests and typed answers."""
