"""What a place decides of a payment: tax, authentication, surcharges, value date, cash, language. Pure functions.

Each takes its terms (:mod:`schemas.localities`) from the rule that applies. Which rule that is, is not decided here.
"""
