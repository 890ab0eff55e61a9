"""The networks themselves, a module for each family."""
