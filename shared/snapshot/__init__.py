"""Snapshots: write, verify, open, and the folder that holds those of a partition."""
