"""A card PSP over HTTP, in Stripe's API.

``declines`` is the table of its codes, ``mapping`` turns calls into requests and answers into ours, ``notices`` reads its
webhooks; all of that is pure. ``plugin`` does the I/O.
"""
