"""Pictures to vectors: the networks by name, and what runs them."""
