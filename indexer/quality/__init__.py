"""The quality of a snapshot: estimate, verdicts, evaluation, health, comparison, the gate."""
