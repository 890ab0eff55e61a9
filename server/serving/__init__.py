"""Which snapshots serve, and what makes them change."""
