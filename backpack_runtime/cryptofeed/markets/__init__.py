"""The exchange's markets in cryptofeed's terms."""
