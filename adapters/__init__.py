"""What joins the core to the world outside: PostgreSQL, this migration, Prometheus."""
