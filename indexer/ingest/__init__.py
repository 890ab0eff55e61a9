"""From catalog rows to vectors: download, decode, embed, and the outcome of each row."""
