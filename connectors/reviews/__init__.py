"""Reviews from outside: posting decisions and hearing what became of them."""
