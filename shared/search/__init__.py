"""Queries, search parameters, the searches, and their hits. No HTTP."""
