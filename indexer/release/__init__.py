"""Commands that move or copy snapshots: publish, pull, roll back, ship, export."""
