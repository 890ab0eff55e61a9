"""How good a snapshot is: estimate, verdicts, evaluation, health, the gate."""
