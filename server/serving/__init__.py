"""The snapshots that serve, and the signals that change them."""
