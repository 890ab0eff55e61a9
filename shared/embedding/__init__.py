"""Pictures to vectors: the networks by name, and the engines that run them."""
