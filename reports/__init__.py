"""The cutover report."""
