"""The truth table: which corruption each check catches, found out by making them."""
