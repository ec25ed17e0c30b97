"""What `tinyvla compare` is made of."""
