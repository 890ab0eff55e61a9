"""Bytes to upright RGB pictures: the only decoder. And a page of pictures."""
