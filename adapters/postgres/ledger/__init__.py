"""The ledger: what a migration remembers, in the schema crossfade of the new database."""
