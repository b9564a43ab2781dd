"""Base rule sets: named editions, each a file that never changes once it is released."""
