"""What is wrong with a run, a checkpoint or a dataset: measurements, a verdict, the likely cause, the remedy."""
