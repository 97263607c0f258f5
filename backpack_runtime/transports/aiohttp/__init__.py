"""The aiohttp runtime."""
