"""Accounts of the simulated exchange: orders, funds, margin."""
