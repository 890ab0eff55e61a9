"""Changes between two index runs: the journal, and a snapshot with its changes."""
