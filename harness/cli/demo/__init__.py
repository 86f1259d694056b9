"""``crossfade demo``: a whole migration, or one that goes wrong, on a server of its own."""
