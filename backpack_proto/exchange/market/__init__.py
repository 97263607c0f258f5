"""Markets of the simulated exchange: matching, order flow, tape."""
