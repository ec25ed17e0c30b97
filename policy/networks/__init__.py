"""The policy networks (torch): one encoder, one trunk, two heads."""
