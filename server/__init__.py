"""Answer from snapshots over HTTP."""
