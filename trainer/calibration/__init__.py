"""What a validation loss says about success in closed loop, where that was measured."""
