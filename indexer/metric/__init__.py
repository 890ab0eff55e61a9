"""What a catalog teaches about likeness: chosen by its own judge, then fitted."""
