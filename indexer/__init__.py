"""Catalog -> snapshot: reads the catalog, fetches and embeds its images, writes the index."""
