"""The networks that photos need, and the queue in which photos wait."""
