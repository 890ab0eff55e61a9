"""The HTTP routes: what they take, and what they answer."""
