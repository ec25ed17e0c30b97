"""`tinyvla bench`: what a policy server's doors cost, measured from where a robot stands."""
