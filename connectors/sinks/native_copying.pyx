# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False, auto_pickle=False
"""What :mod:`connectors.sinks.copying` does, compiled; that is the reference (``tests/unit/test_copying.py``)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.sequence cimport PySequence_Fast, PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    long long PyLong_AsLongLong(object value) except? -1


cdef struct Sink:
    unsigned char *start
    Py_ssize_t size
    Py_ssize_t room


cdef int reserve(Sink *sink, Py_ssize_t more) except -1:
    cdef Py_ssize_t room
    cdef void *start
    if sink.size + more <= sink.room:
        return 0
    room = 2 * sink.room if 2 * sink.room > sink.size + more else sink.size + more
    start = PyMem_Realloc(sink.start, room)
    if start == NULL:
        raise MemoryError
    sink.start, sink.room = <unsigned char *>start, room
    return 0


cdef inline void put(Sink *sink, uint64_t value, int size) noexcept:
    """``value`` as a big-endian number; there is room."""
    cdef int at
    for at in range(size):
        sink.start[sink.size + at] = <unsigned char>(value >> (8 * (size - 1 - at)))
    sink.size += size


cdef inline int put_bytes(Sink *sink, const char *data, Py_ssize_t size) except -1:
    if size > INT32_MAX:
        raise OverflowError("a value of more than 2 GiB")
    reserve(sink, size + 4)
    put(sink, <uint64_t>size, 4)
    memcpy(sink.start + sink.size, data, size)
    sink.size += size
    return 0


cdef inline uint64_t number(const unsigned char *at, int size) noexcept:
    cdef uint64_t value = 0
    cdef int each
    for each in range(size):
        value = value << 8 | at[each]
    return value


cdef object finished(Sink *sink):
    return PyBytes_FromStringAndSize(<char *>sink.start, sink.size)


def pack(rows, bytes kinds):
    """See :func:`connectors.sinks.copying.pack`."""
    cdef Sink sink
    cdef Py_ssize_t columns = len(kinds), at, size
    cdef const char *kind = PyBytes_AS_STRING(kinds)
    cdef const char *text
    cdef object row, value
    sink.size, sink.room = 0, 1 << 16
    sink.start = <unsigned char *>PyMem_Malloc(sink.room)
    if sink.start == NULL:
        raise MemoryError
    try:
        for row in rows:
            row = PySequence_Fast(row, "a row is no sequence")
            if PySequence_Fast_GET_SIZE(row) != columns:
                raise ValueError("a row of another length")
            reserve(&sink, 2)
            put(&sink, <uint64_t>(columns + 1), 2)
            for at in range(columns):
                value = <object>PySequence_Fast_GET_ITEM(row, at)
                if value is None:
                    reserve(&sink, 4)
                    put(&sink, <uint64_t>0xFFFFFFFF, 4)
                elif kind[at] == b"t":
                    text = PyUnicode_AsUTF8AndSize(value, &size)
                    put_bytes(&sink, text, size)
                elif kind[at] == b"i":
                    reserve(&sink, 12)
                    put(&sink, 8, 4)
                    put(&sink, <uint64_t>PyLong_AsLongLong(value), 8)
                else:
                    if not PyBytes_Check(value):
                        raise TypeError("bytes are expected")
                    put_bytes(&sink, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        return finished(&sink)
    finally:
        PyMem_Free(sink.start)


cdef inline const unsigned char *skipped(const unsigned char *at, Py_ssize_t fields) noexcept:
    """Behind so many fields."""
    cdef int32_t size
    cdef Py_ssize_t each
    for each in range(fields):
        size = <int32_t>number(at, 4)
        at += 4
        if size > 0:
            at += size
    return at


def unpack(bytes data, bytes kinds):
    """See :func:`connectors.sinks.copying.unpack`."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef const unsigned char *end = at + PyBytes_GET_SIZE(data)
    cdef Py_ssize_t columns = len(kinds), each
    cdef const char *kind = PyBytes_AS_STRING(kinds)
    cdef int32_t size
    cdef list rows = [], row
    while at < end:
        at += 2
        row = []
        for each in range(columns):
            size = <int32_t>number(at, 4)
            at += 4
            if size < 0:
                row.append(None)
                continue
            if kind[each] == b"t":
                row.append(PyUnicode_DecodeUTF8(<const char *>at, size, NULL))
            elif kind[each] == b"i":
                row.append(<long long>number(at, 8))
            else:
                row.append(PyBytes_FromStringAndSize(<const char *>at, size))
            at += size
        rows.append(tuple(row))
    return rows


def place(bytes data, Py_ssize_t columns, Py_ssize_t keys, Py_ssize_t shard, leaf_indexes):
    """See :func:`connectors.sinks.copying.place`."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef const unsigned char *end = at + PyBytes_GET_SIZE(data)
    cdef const unsigned char *start
    cdef const unsigned char *behind
    cdef Sink rows, ids
    cdef object leaf
    cdef uint64_t index
    cdef Py_ssize_t count = len(leaf_indexes)
    rows.size = ids.size = 0
    rows.room, ids.room = PyBytes_GET_SIZE(data) + 12 * count + 1, 64 * count + 64
    rows.start, ids.start = <unsigned char *>PyMem_Malloc(rows.room), <unsigned char *>PyMem_Malloc(ids.room)
    try:
        if rows.start == NULL or ids.start == NULL:
            raise MemoryError
        for leaf in leaf_indexes:
            if at >= end:
                raise ValueError("fewer rows than leaves")
            index = <uint64_t>PyLong_AsLongLong(leaf)
            start = at + 2
            behind = skipped(start, keys)
            reserve(&ids, behind - start + 2 + 8 + 12)
            put(&ids, <uint64_t>(keys + 2), 2)
            memcpy(ids.start + ids.size, start, behind - start)
            ids.size += behind - start
            behind = skipped(behind, shard - keys)
            put(&ids, 4, 4)
            put(&ids, number(behind + 4, 8), 4)
            put(&ids, 8, 4)
            put(&ids, index, 8)
            behind = skipped(behind, columns - shard)
            memcpy(rows.start + rows.size, at, behind - at)
            rows.size += behind - at
            put(&rows, 8, 4)
            put(&rows, index, 8)
            at = behind
        if at != end:
            raise ValueError("more rows than leaves")
        return finished(&rows), finished(&ids)
    finally:
        PyMem_Free(rows.start)
        PyMem_Free(ids.start)
