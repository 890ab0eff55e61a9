"""Unit vectors in plain numpy: normalise, top-k, k-means, projection, recall."""
