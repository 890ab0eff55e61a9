"""What every request passes before a route: log, keys, rates, caching, the fast path."""
