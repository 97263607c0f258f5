"""The native feed: this project's session behind cryptofeed's hooks."""
