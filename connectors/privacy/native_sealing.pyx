# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False, auto_pickle=False
"""Rows whose seals are the debtor's and the creditor's alone, as nearly all are, compiled; the reference is
:mod:`connectors.privacy.sealing` (``tests/unit/test_sealing.py``)."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    TAG = 16  # bytes that AES-GCM adds
    HEAD = 7
    SEAL = 6
    KEY_ID = 8
    NONCE = 12
    RANDOM = 8
    VALUE = 13  # of a row, the place of its value
    COLUMNS = 15
    # Of a cut.
    REST = 0
    CARRIED_AT = 1
    DEBTOR_ID = 2
    CREDITOR_ID = 3
    DEBTOR = 5
    CREDITOR = 6
    PARTY = 7
    PAYMENT = 9
    EVERYBODY = 10


cdef inline void put(char *at, uint64_t value, int size) noexcept:
    cdef int each
    for each in range(size):
        at[each] = <char>(value >> (8 * (size - 1 - each)))


cdef bint is_usual(object row, tuple cut):
    """Whether debtor and creditor alone own what was cut out of a payment's event."""
    return (
        PyTuple_GET_SIZE(row) == COLUMNS
        and bool(<object>PyTuple_GET_ITEM(row, 1))
        and not <object>PyTuple_GET_ITEM(cut, PARTY)
        and not <object>PyTuple_GET_ITEM(cut, PAYMENT)
        and not <object>PyTuple_GET_ITEM(cut, EVERYBODY)
    )


def seal(rows, type cut_type, dict keys, str kind, bytes magic, bytes random, uint32_t count, others):
    """``rows`` with sealed values in place of cuts. ``keys`` by tenant, ``kind`` and name; nonces are ``random`` with ``count``
    and the numbers after it, two for each row at most; ``others`` seals a row of another kind."""
    cdef list found = []
    cdef object row  # May have names, which "tuple" would refuse.
    cdef tuple cut
    cdef bytes rest, piece, nonce, value, place
    cdef object key, text
    cdef char *at
    cdef Py_ssize_t size
    cdef int owner, parts
    for row in rows:
        if type(<object>PyTuple_GET_ITEM(row, VALUE)) is not cut_type:
            found.append(row)
            continue
        cut = <tuple>PyTuple_GET_ITEM(row, VALUE)
        if not is_usual(row, cut):
            found.append(others(row, cut))
            continue
        rest = cut[REST]
        parts = (1 if cut[DEBTOR] else 0) + (1 if cut[CREDITOR] else 0)
        size = HEAD + PyBytes_GET_SIZE(rest) + PyBytes_GET_SIZE(<bytes>cut[DEBTOR]) + PyBytes_GET_SIZE(<bytes>cut[CREDITOR])
        value = PyBytes_FromStringAndSize(NULL, size + parts * (SEAL + KEY_ID + NONCE + TAG))
        at = PyBytes_AS_STRING(value)
        memcpy(at, PyBytes_AS_STRING(magic), 2)
        put(at + 2, <uint64_t><long>cut[CARRIED_AT], 4)
        put(at + 6, parts, 1)
        at += HEAD
        place = f"{row[0]}\x00{row[9]}\x00{row[10]}\x00{row[11]}".encode()
        for owner in range(2):
            piece = cut[DEBTOR + owner]
            if not piece:
                continue
            key = keys[row[0], kind, cut[DEBTOR_ID + owner]]
            nonce = PyBytes_FromStringAndSize(NULL, NONCE)
            memcpy(PyBytes_AS_STRING(nonce), PyBytes_AS_STRING(random), RANDOM)
            put(PyBytes_AS_STRING(nonce) + RANDOM, count, NONCE - RANDOM)
            count += 1
            size = PyBytes_GET_SIZE(piece) + TAG
            text = bytearray(size)
            key.encrypt_into(nonce, piece, place, text)
            put(at, owner, 1)
            put(at + 1, 1, 1)
            put(at + 2, size, 4)
            at += SEAL
            memcpy(at, PyBytes_AS_STRING(<bytes>key.key_id), KEY_ID)
            memcpy(at + KEY_ID, PyBytes_AS_STRING(nonce), NONCE)
            memcpy(at + KEY_ID + NONCE, PyByteArray_AS_STRING(text), size)
            at += KEY_ID + NONCE + size
        memcpy(at, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
        found.append((*row[:VALUE], value, *row[VALUE + 1 :]))
    return found
