"""From a trained network to a policy bundle (torch)."""
