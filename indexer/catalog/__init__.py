"""The catalog: where it lies, and how it is read."""
