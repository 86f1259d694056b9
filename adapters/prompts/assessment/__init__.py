"""What will not fit, and why, before anything is written."""
