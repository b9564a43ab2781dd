"""Business rules: conditions, which rules of a tenant apply to a payment, and what they decide. Pure."""
