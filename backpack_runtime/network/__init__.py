"""Ways to the exchange: addresses, TLS, proxies, dialing."""
