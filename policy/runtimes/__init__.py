"""Backends that run an exported or eager policy network."""
