"""A card switch in ISO 8583:1987 over TCP.

``elements`` and ``codec`` read and write messages to the byte, ``framing`` cuts a stream into them, ``profile`` says what one
switch is like, ``mapping`` turns calls into messages and messages into answers; all of that is pure. ``link`` holds the
connections, ``plugin`` puts them together.
"""
