# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False, auto_pickle=False
"""What is in the windows of a profile, compiled: one pass over its buckets instead of a sum for each window.

Same numbers as :mod:`pipeline.stages.windows`, which stays the reference and does what does not fit here.
"""

from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef extern from "Python.h":
    long long PyLong_AsLongLong(object value) except? -1

cdef extern from *:
    bint __builtin_add_overflow(int64_t a, int64_t b, int64_t *sum) nogil


cdef enum:
    BANDS = 7


#: Where each band of ages ends, in hours: 1h, 1d, 7d, then the day, the week and the 30 days of the delayed windows, of which
#: the 30 days that end now are a part.
cdef int64_t[BANDS] ENDS = [2, 24, 168, 192, 336, 720, 888]


cdef struct Bands:
    int64_t sums[BANDS]


cdef inline int add(Bands *bands, int band, list column, Py_ssize_t at) except -1:
    """Add an entry to a band; a column of a row of an earlier version may end early. Raises OverflowError."""
    if at < PyList_GET_SIZE(column):
        if __builtin_add_overflow(
            bands.sums[band], PyLong_AsLongLong(<object> PyList_GET_ITEM(column, at)), &bands.sums[band]
        ):
            raise OverflowError("a sum of more than 64 bits")
    return 0


cdef int64_t total(Bands *bands, int begin, int end) except? -1:
    cdef int64_t found = 0
    cdef int band
    for band in range(begin, end):
        if __builtin_add_overflow(found, bands.sums[band], &found):
            raise OverflowError("a sum of more than 64 bits")
    return found


cdef int used_since(dict last_hours, int64_t hour, int64_t *counts, int windows) except -1:
    """How many names were last used in the day, the week, the month that ends at ``hour``, or later."""
    cdef PyObject *name
    cdef PyObject *last
    cdef Py_ssize_t position = 0
    cdef int64_t age
    while PyDict_Next(last_hours, &position, &name, &last):
        age = hour - PyLong_AsLongLong(<object> last)
        if age < 24:
            counts[0] += 1
        if age < 168:
            counts[1] += 1
        if windows == 3 and age < 720:
            counts[2] += 1
    return 0


def payer_facts(
    list hours not None,
    list counts not None,
    list amounts not None,
    list smalls not None,
    list logs not None,
    list squares not None,
    dict terminals not None,
    dict cards not None,
    int64_t hour,
    int64_t terminals_max,
    int64_t cards_max,
):
    """See :func:`pipeline.stages.windows.payer_facts`. Raises OverflowError for numbers that do not fit."""
    cdef Bands[5] bands
    cdef Bands *count = &bands[0]
    cdef Bands *amount = &bands[1]
    cdef Bands *small = &bands[2]
    cdef Bands *log = &bands[3]
    cdef Bands *square = &bands[4]
    cdef int64_t[3] terminals_in
    cdef int64_t[3] cards_in
    cdef Py_ssize_t at = PyList_GET_SIZE(hours)
    cdef int64_t age
    cdef int band = 0
    cdef bint complete = True
    memset(bands, 0, sizeof(bands))
    memset(terminals_in, 0, sizeof(terminals_in))
    memset(cards_in, 0, sizeof(cards_in))
    while at:
        at -= 1
        age = hour - PyLong_AsLongLong(<object> PyList_GET_ITEM(hours, at))
        if age < 0:
            continue
        while band < BANDS - 1 and age >= ENDS[band]:
            band += 1
        if band == BANDS - 1:
            break
        add(count, band, counts, at)
        add(amount, band, amounts, at)
        add(small, band, smalls, at)
        add(log, band, logs, at)
        add(square, band, squares, at)
        if at < PyList_GET_SIZE(logs) and PyLong_AsLongLong(<object> PyList_GET_ITEM(logs, at)) == 0:
            complete = False
    used_since(terminals, hour, terminals_in, 3)
    used_since(cards, hour, cards_in, 2)
    return [
        total(count, 0, 2),
        total(amount, 0, 2),
        total(count, 0, 3),
        total(amount, 0, 3),
        total(count, 0, 6),
        total(amount, 0, 6),
        min(terminals_in[0], terminals_max),
        min(terminals_in[1], terminals_max),
        min(terminals_in[2], terminals_max),
        count.sums[0],
        small.sums[0],
        total(small, 0, 2),
        min(cards_in[0], cards_max),
        min(cards_in[1], cards_max),
    ], total(log, 0, 6) if complete else None, total(square, 0, 6)


def payee_facts(
    list hours not None,
    list counts not None,
    list amounts not None,
    list smalls not None,
    list chargebacks not None,
    list new_payers not None,
    dict cards not None,
    int64_t hour,
    int64_t cards_max,
):
    """See :func:`pipeline.stages.windows.payee_facts`. Raises OverflowError for numbers that do not fit."""
    cdef Bands[5] bands
    cdef Bands *count = &bands[0]
    cdef Bands *amount = &bands[1]
    cdef Bands *small = &bands[2]
    cdef Bands *back = &bands[3]
    cdef Bands *new = &bands[4]
    cdef int64_t[3] cards_in
    cdef Py_ssize_t at = PyList_GET_SIZE(hours)
    cdef int64_t age
    cdef int band = 0
    memset(bands, 0, sizeof(bands))
    memset(cards_in, 0, sizeof(cards_in))
    while at:
        at -= 1
        age = hour - PyLong_AsLongLong(<object> PyList_GET_ITEM(hours, at))
        if age < 0:
            continue
        while band < BANDS and age >= ENDS[band]:
            band += 1
        if band == BANDS:
            break
        add(count, band, counts, at)
        add(back, band, chargebacks, at)
        if band < 6:
            add(amount, band, amounts, at)
        if band < 3:
            add(small, band, smalls, at)
            add(new, band, new_payers, at)
    used_since(cards, hour, cards_in, 2)
    return [
        count.sums[0],
        total(count, 0, 2),
        total(count, 0, 3),
        total(count, 0, 6),
        total(amount, 0, 2),
        total(amount, 0, 6),
        total(back, 0, 3),
        total(back, 0, 6),
        total(count, 3, 7),
        total(back, 3, 7),
        count.sums[3],
        back.sums[3],
        total(count, 3, 5),
        total(back, 3, 5),
        min(cards_in[0], cards_max),
        min(cards_in[1], cards_max),
        total(new, 0, 2),
        total(new, 0, 3),
        small.sums[0],
        total(small, 0, 2),
    ]
