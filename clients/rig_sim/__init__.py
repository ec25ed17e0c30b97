"""The simulated needle rig: one core, stepped by the wall clock behind the rig's wire or in lock-step."""
