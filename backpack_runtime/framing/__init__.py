"""HTTP and websocket framing, bytes in and facts out."""
