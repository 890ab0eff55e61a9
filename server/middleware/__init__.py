"""WSGI middleware in front of the routes: request log, CORS, caching, keys, rate limits, the fast path."""
