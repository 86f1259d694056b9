"""Speed and memory over millions of rows: a generator, and backfill and verify against the barest of their kind."""
