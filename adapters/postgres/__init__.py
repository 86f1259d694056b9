"""What any PostgreSQL store needs, written against ``part.Part``."""
