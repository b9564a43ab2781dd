"""A card switch in ISO 8583:1987 over TCP (docs/plugins-iso8583.md).

``elements``, ``encoding`` and ``codec`` read and write messages to the byte, ``framing`` cuts a stream into them, ``profile``
says what one switch is like, ``requests`` turns calls into messages, ``answers`` messages into answers: all of that is pure.
``link`` holds the connections, ``plugin`` puts them together.
"""
