"""Live views for a terminal."""
