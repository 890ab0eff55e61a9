"""What the indexer and the server both need. Knows neither of them."""
