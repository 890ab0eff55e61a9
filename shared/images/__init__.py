"""Bytes to upright RGB pictures: the only decoder; crops, views, and a page of pictures."""
