"""The metric that a catalog teaches: chosen by its own judge, then fitted."""
