"""Closed-loop evaluation: rollouts, intervals, tables and charts."""
