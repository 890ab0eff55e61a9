"""Live changes between two index runs: the journal, and the view of a snapshot with its changes."""
