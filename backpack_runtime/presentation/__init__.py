"""What a terminal or another program gets to see: events as JSON or text, and the live view."""
