"""Order books: levels, sequencing, verification."""
