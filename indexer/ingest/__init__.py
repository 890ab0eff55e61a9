"""From catalog rows to vectors: download, decode, embed, and what became of each row."""
