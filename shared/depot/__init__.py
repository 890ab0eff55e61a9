"""Depots, from which every host fetches snapshots: publish, pull, go back, clean."""
