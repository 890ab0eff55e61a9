"""Snapshots where every host can fetch them: publish, pull, go back, clean."""
