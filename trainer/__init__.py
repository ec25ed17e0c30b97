"""Demonstrations, datasets, training, export and closed-loop evaluation."""
