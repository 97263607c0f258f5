"""The simulated exchange's websocket side."""
