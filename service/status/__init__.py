"""The live status page: what the last minutes were like, and what each robot sees and is told."""
