"""A whole small adapter: the stock of warehouses moves from a table with a composite key to one with another shape."""
