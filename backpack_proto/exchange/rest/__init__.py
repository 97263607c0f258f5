"""The simulated exchange's REST side."""
