"""Measure how fast the project is, each figure beside that of a peer in the same run."""
