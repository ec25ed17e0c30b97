"""Other projects' recordings into our LeRobotDataset: one file for each layout, and what they share."""
