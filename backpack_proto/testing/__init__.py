"""Tools to test machines and programs: the laws of machines, and a session joined with the simulated exchange."""
