"""Commands that move or copy what was indexed: publish, pull, roll back, ship, export."""
