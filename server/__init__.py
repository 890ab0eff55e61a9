"""Snapshots -> answers over HTTP."""
