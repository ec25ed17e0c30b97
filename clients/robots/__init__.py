"""Robots behind one small interface."""
