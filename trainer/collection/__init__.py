"""Collecting demonstrations: which attempts to make, and one of them in a worker process."""
