"""A run: what it is to do, what it does, and what came of it."""
