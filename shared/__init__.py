"""Code that the indexer and the server both need. It knows neither of them."""
