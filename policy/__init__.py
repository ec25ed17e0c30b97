"""What a policy is: its contract, preprocessing, networks, noise schedule, bundle, export and runtimes."""
