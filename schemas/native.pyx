# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False, auto_pickle=False
"""Avro bodies, compiled: a schema becomes a tree of nodes once; then bytes become records, and records bytes.

Same bytes and same values as fastavro, which stays the reference (``tests/unit/test_native_codec.py``), for the schemas that
this project writes. Another schema raises :class:`UnsupportedSchemaError` when the :class:`Body` is made.

What is read may be hostile: every length and count is compared with the bytes that are there before anything is made of it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Copy, PyDict_Next, PyDict_SetItem
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.sequence cimport PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE
from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MIN, int64_t, uint64_t
from libc.string cimport memcpy, memmove

from msgspec.json import Encoder

cdef extern from "Python.h":
    object PyObject_Vectorcall(object callable, PyObject **args, size_t nargsf, object kwnames)
    PyObject *PyDict_GetItemWithError(object mapping, object key) except? NULL
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    double PyFloat_Unpack4(const char *at, int little_endian) except? -1.0
    double PyFloat_Unpack8(const char *at, int little_endian) except? -1.0
    int PyFloat_Pack4(double value, char *at, int little_endian) except -1
    int PyFloat_Pack8(double value, char *at, int little_endian) except -1


cdef object _encode_json = Encoder().encode


class UnsupportedSchemaError(ValueError):
    """A schema with something that is not compiled."""


class MalformedError(ValueError):
    """Bytes that no writer of this schema writes."""


class TruncatedError(MalformedError):
    """Bytes that end before the record does, or that promise more than there is."""


cdef enum:
    FIELDS_MAX = 64  # of a record: their values wait on the C stack until the record is made of them
    STACK_BYTES = 2048  # what most records fit in; a larger one moves to the heap
    EMPTY_ITEMS_MAX = 1024  # of an array whose items take no bytes: nothing else limits how many are claimed
    SCHEMA_DEPTH_MAX = 32  # a record in a record in a record ...: reading goes as deep as the schema
    SMALLEST_MAX = 1 << 30  # a record may take more bytes at least; that is as good as this


# -- bytes in ---------------------------------------------------------------------------------------------------------

cdef struct Source:
    const unsigned char *at
    const unsigned char *end


cdef inline int64_t get_long(Source *source) except? -1:
    """A zig-zag number of at most ten bytes and 64 bits."""
    cdef uint64_t number = 0
    cdef uint64_t byte
    cdef int shift = 0
    while source.at < source.end:
        byte = source.at[0]
        source.at += 1
        if shift == 63 and byte > 1:
            raise MalformedError("a number of more than 64 bits")
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return <int64_t> (number >> 1) ^ -<int64_t> (number & 1)
        shift += 7
    raise TruncatedError("a number ends early")


cdef inline const char *get_bytes(Source *source, Py_ssize_t *size) except NULL:
    """Where the next bytes or text are, and how long; they are there in full."""
    cdef int64_t length = get_long(source)
    cdef const char *start = <const char *> source.at
    if length < 0:
        raise MalformedError("a negative length")
    if length > source.end - source.at:
        raise TruncatedError("a length beyond the end")
    size[0] = length
    source.at += length
    return start


cdef inline const char *get_fixed(Source *source, Py_ssize_t size) except NULL:
    cdef const char *start = <const char *> source.at
    if size > source.end - source.at:
        raise TruncatedError("a value ends early")
    source.at += size
    return start


cdef inline object get_text(Source *source):
    cdef Py_ssize_t size
    cdef const char *start = get_bytes(source, &size)
    return PyUnicode_DecodeUTF8(start, size, NULL)


cdef int64_t get_count(Source *source, Py_ssize_t smallest, Py_ssize_t before, const unsigned char **end) except -1:
    """The number of items of the next block, 0 after the last one; ``end`` is where the block says that it ends, or NULL.

    ``smallest`` is the least number of bytes of an item, ``before`` the number of items of the blocks before.
    """
    cdef int64_t count = get_long(source)
    cdef int64_t size
    end[0] = NULL
    if count < 0:
        if count == INT64_MIN:
            raise MalformedError("a count of more than 63 bits")
        count = -count
        size = get_long(source)
        if size < 0:
            raise MalformedError("a negative length")
        if size > source.end - source.at:
            raise TruncatedError("a length beyond the end")
        end[0] = source.at + size
    if smallest == 0:
        if count > EMPTY_ITEMS_MAX - before:
            raise MalformedError("too many items without bytes")
    elif count > (source.end - source.at) // smallest:
        raise TruncatedError("more items than bytes")
    return count


cdef int check_block(Source *source, const unsigned char *end) except -1:
    if end != NULL and end != source.at:
        raise MalformedError("a block is not as long as it says")
    return 0


# -- bytes out --------------------------------------------------------------------------------------------------------

cdef struct Sink:
    char *data
    Py_ssize_t size
    Py_ssize_t room
    bint on_heap


cdef int grow(Sink *sink, Py_ssize_t more) except -1:
    cdef Py_ssize_t room = 2 * (sink.size + more)
    cdef char *data
    if sink.on_heap:
        data = <char *> PyMem_Realloc(sink.data, room)
    else:
        data = <char *> PyMem_Malloc(room)
    if data == NULL:
        raise MemoryError()
    if not sink.on_heap:
        memcpy(data, sink.data, sink.size)
    sink.data, sink.room, sink.on_heap = data, room, True
    return 0


cdef inline char *take(Sink *sink, Py_ssize_t size) except NULL:
    """Where to write the next ``size`` bytes; they count as written."""
    if size > sink.room - sink.size:
        grow(sink, size)
    sink.size += size
    return sink.data + sink.size - size


cdef inline int put_number(Sink *sink, uint64_t number) except -1:
    cdef char *at
    if sink.room - sink.size < 10:
        grow(sink, 10)
    at = sink.data + sink.size
    while number >= 0x80:
        at[0] = <char> (number | 0x80)
        at += 1
        number >>= 7
    at[0] = <char> number
    sink.size = at + 1 - sink.data
    return 0


cdef inline int put_long(Sink *sink, int64_t value) except -1:
    return put_number(sink, (<uint64_t> value << 1) ^ <uint64_t> (value >> 63))


cdef inline int put_raw(Sink *sink, const char *data, Py_ssize_t size) except -1:
    memcpy(take(sink, size), data, size)
    return 0


cdef inline int put_text(Sink *sink, object value) except -1:
    cdef Py_ssize_t size
    cdef const char *data
    if not isinstance(value, str):
        raise TypeError(f"a str is expected, not {type(value).__name__}")
    data = PyUnicode_AsUTF8AndSize(value, &size)
    put_long(sink, size)
    return put_raw(sink, data, size)


cdef inline int64_t integer(object value) except? -1:
    cdef int overflow = 0
    cdef int64_t number
    if not isinstance(value, int):
        raise TypeError(f"an int is expected, not {type(value).__name__}")
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        raise OverflowError("a number of more than 64 bits")
    return number


cdef inline double real(object value) except? -1.0:
    if isinstance(value, float) or isinstance(value, int):
        return value
    raise TypeError(f"a float is expected, not {type(value).__name__}")


cdef inline int put_digits(Sink *sink, int64_t value) except -1:
    """A number in decimal."""
    cdef char digits[20]
    cdef int at = 20
    cdef uint64_t left = <uint64_t> value if value >= 0 else -<uint64_t> value
    while True:
        at -= 1
        digits[at] = <char> (48 + left % 10)
        left //= 10
        if left == 0:
            break
    if value < 0:
        put_raw(sink, b"-", 1)
    return put_raw(sink, digits + at, 20 - at)


cdef inline uint64_t may_be_special(uint64_t bytes) noexcept nogil:
    """Not 0 when one of eight bytes is a control character, a quote, a backslash or no ASCII (or, rarely, when none is)."""
    cdef uint64_t ones = 0x0101010101010101
    cdef uint64_t quote = bytes ^ (ones * 0x22)
    cdef uint64_t backslash = bytes ^ (ones * 0x5C)
    return (bytes | (bytes - ones * 0x20) | (quote - ones) | (backslash - ones)) & (ones * 0x80)


cdef int is_plain(const char *text, Py_ssize_t size) noexcept nogil:
    """Whether JSON writes ``text`` as it is: nothing to escape. That it is UTF-8 is seen when the whole becomes text."""
    cdef uint64_t bytes
    cdef Py_ssize_t at = 0
    cdef unsigned char c
    while size - at >= 8:
        memcpy(&bytes, text + at, 8)
        if may_be_special(bytes):
            break
        at += 8
    while at < size:
        c = <unsigned char> text[at]
        if c < 0x20 or c == 0x22 or c == 0x5C:
            return False
        at += 1
    return True


cdef inline int is_ascii(const char *text, Py_ssize_t size) noexcept nogil:
    cdef uint64_t bytes
    cdef uint64_t ones = 0x0101010101010101
    cdef uint64_t seen = 0
    cdef Py_ssize_t at = 0
    while size - at >= 8:
        memcpy(&bytes, text + at, 8)
        seen |= bytes
        at += 8
    while at < size:
        seen |= <unsigned char> text[at]
        at += 1
    return (seen & (ones * 0x80)) == 0


cdef inline int put_json(Sink *sink, object value) except -1:
    """A value as msgspec writes it."""
    text = _encode_json(value)
    return put_raw(sink, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


# -- the schema as a tree ---------------------------------------------------------------------------------------------

cdef class Node:
    """A type of a schema. ``smallest`` is the least number of bytes that a value takes."""

    cdef Py_ssize_t smallest

    cdef object read(self, Source *source):
        raise NotImplementedError

    cdef int write(self, Sink *sink, object value) except -1:
        raise NotImplementedError

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        """Read a value and write it as JSON: what msgspec makes of what :meth:`read` gives."""
        return put_json(sink, self.read(source))

    cdef int skip(self, Source *source) except -1:
        """Pass a value over; raises what :meth:`read` raises."""
        self.read(source)
        return 0


cdef class NullNode(Node):
    cdef object read(self, Source *source):
        return None

    cdef int write(self, Sink *sink, object value) except -1:
        if value is not None:
            raise TypeError(f"None is expected, not {type(value).__name__}")
        return 0


cdef class BooleanNode(Node):
    cdef object read(self, Source *source):
        return get_fixed(source, 1)[0] != 0

    cdef int write(self, Sink *sink, object value) except -1:
        if value is not True and value is not False:
            raise TypeError(f"a bool is expected, not {type(value).__name__}")
        take(sink, 1)[0] = value is True
        return 0

    cdef int skip(self, Source *source) except -1:
        get_fixed(source, 1)
        return 0

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        if get_fixed(source, 1)[0] != 0:
            return put_raw(sink, b"true", 4)
        return put_raw(sink, b"false", 5)


cdef class LongNode(Node):
    cdef object read(self, Source *source):
        return get_long(source)

    cdef int write(self, Sink *sink, object value) except -1:
        return put_long(sink, integer(value))

    cdef int skip(self, Source *source) except -1:
        get_long(source)
        return 0

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        return put_digits(sink, get_long(source))


cdef class IntNode(Node):
    cdef object read(self, Source *source):
        cdef int64_t number = get_long(source)
        if number < INT32_MIN or number > INT32_MAX:
            raise MalformedError("an int of more than 32 bits")
        return number

    cdef int write(self, Sink *sink, object value) except -1:
        cdef int64_t number = integer(value)
        if number < INT32_MIN or number > INT32_MAX:
            raise OverflowError("an int of more than 32 bits")
        return put_long(sink, number)

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        cdef int64_t number = get_long(source)
        if number < INT32_MIN or number > INT32_MAX:
            raise MalformedError("an int of more than 32 bits")
        return put_digits(sink, number)


cdef class FloatNode(Node):
    cdef object read(self, Source *source):
        return PyFloat_Unpack4(get_fixed(source, 4), 1)

    cdef int write(self, Sink *sink, object value) except -1:
        cdef double number = real(value)
        return PyFloat_Pack4(number, take(sink, 4), 1)

    cdef int skip(self, Source *source) except -1:
        get_fixed(source, 4)
        return 0


cdef class DoubleNode(Node):
    cdef object read(self, Source *source):
        return PyFloat_Unpack8(get_fixed(source, 8), 1)

    cdef int write(self, Sink *sink, object value) except -1:
        cdef double number = real(value)
        return PyFloat_Pack8(number, take(sink, 8), 1)

    cdef int skip(self, Source *source) except -1:
        get_fixed(source, 8)
        return 0


cdef class BytesNode(Node):
    cdef object read(self, Source *source):
        cdef Py_ssize_t size
        cdef const char *start = get_bytes(source, &size)
        return PyBytes_FromStringAndSize(start, size)

    cdef int write(self, Sink *sink, object value) except -1:
        if not isinstance(value, bytes):
            raise TypeError(f"bytes are expected, not {type(value).__name__}")
        put_long(sink, PyBytes_GET_SIZE(value))
        return put_raw(sink, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))

    cdef int skip(self, Source *source) except -1:
        cdef Py_ssize_t size
        get_bytes(source, &size)
        return 0


cdef class StringNode(Node):
    cdef object read(self, Source *source):
        return get_text(source)

    cdef int write(self, Sink *sink, object value) except -1:
        return put_text(sink, value)

    cdef int skip(self, Source *source) except -1:
        cdef Py_ssize_t size
        cdef const char *start = get_bytes(source, &size)
        if not is_ascii(start, size):
            PyUnicode_DecodeUTF8(start, size, NULL)  # Passed over, it must still be text.
        return 0

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        cdef Py_ssize_t size
        cdef const char *start = get_bytes(source, &size)
        cdef char *at
        if not is_plain(start, size):
            return put_json(sink, PyUnicode_DecodeUTF8(start, size, NULL))
        at = take(sink, size + 2)
        at[0] = at[size + 1] = 0x22
        memcpy(at + 1, start, size)
        return 0


cdef class FixedNode(Node):
    cdef object read(self, Source *source):
        return PyBytes_FromStringAndSize(get_fixed(source, self.smallest), self.smallest)

    cdef int write(self, Sink *sink, object value) except -1:
        if not isinstance(value, bytes):
            raise TypeError(f"bytes are expected, not {type(value).__name__}")
        if PyBytes_GET_SIZE(value) != self.smallest:
            raise ValueError(f"{len(value)} bytes, {self.smallest} are expected")
        return put_raw(sink, PyBytes_AS_STRING(value), self.smallest)


cdef class EnumNode(Node):
    cdef tuple symbols
    cdef dict numbers

    cdef object read(self, Source *source):
        cdef int64_t number = get_long(source)
        if number < 0 or number >= len(self.symbols):
            raise MalformedError("no such symbol")
        return self.symbols[<Py_ssize_t> number]

    cdef int write(self, Sink *sink, object value) except -1:
        number = self.numbers.get(value)
        if number is None:
            raise ValueError("no such symbol")
        return put_long(sink, number)


cdef class ArrayNode(Node):
    cdef Node item

    cdef object read(self, Source *source):
        cdef list values = []
        cdef const unsigned char *end
        cdef int64_t count = get_count(source, self.item.smallest, 0, &end)
        while count:
            while count:
                values.append(self.item.read(source))
                count -= 1
            check_block(source, end)
            count = get_count(source, self.item.smallest, len(values), &end)
        return values

    cdef int write(self, Sink *sink, object value) except -1:
        cdef Py_ssize_t count, i
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a list is expected, not {type(value).__name__}")
        count = PySequence_Fast_GET_SIZE(value)
        if count:
            put_long(sink, count)
        for i in range(count):
            if i >= PySequence_Fast_GET_SIZE(value):
                raise ValueError("the list became shorter while it was written")
            self.item.write(sink, <object> PySequence_Fast_GET_ITEM(value, i))
        return put_long(sink, 0)

    cdef int skip(self, Source *source) except -1:
        cdef const unsigned char *end
        cdef Py_ssize_t before = 0
        cdef int64_t count = get_count(source, self.item.smallest, 0, &end)
        while count:
            before += count
            while count:
                self.item.skip(source)
                count -= 1
            check_block(source, end)
            count = get_count(source, self.item.smallest, before, &end)
        return 0

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        cdef const unsigned char *end
        cdef Py_ssize_t before = 0
        cdef int64_t count = get_count(source, self.item.smallest, 0, &end)
        put_raw(sink, b"[", 1)
        while count:
            while count:
                if before:
                    put_raw(sink, b",", 1)
                self.item.transcribe(source, sink)
                before += 1
                count -= 1
            check_block(source, end)
            count = get_count(source, self.item.smallest, before, &end)
        return put_raw(sink, b"]", 1)


cdef class MapNode(Node):
    cdef Node value

    cdef object read(self, Source *source):
        cdef dict values = {}
        cdef const unsigned char *end
        # A key takes a byte at least, its length: no map without bytes.
        cdef Py_ssize_t smallest = 1 + self.value.smallest
        cdef int64_t count = get_count(source, smallest, 0, &end)
        while count:
            while count:
                key = get_text(source)
                values[key] = self.value.read(source)
                count -= 1
            check_block(source, end)
            count = get_count(source, smallest, 0, &end)
        return values

    cdef int write(self, Sink *sink, object value) except -1:
        cdef Py_ssize_t left, position = 0
        cdef PyObject *key
        cdef PyObject *item
        if not isinstance(value, dict):
            raise TypeError(f"a dict is expected, not {type(value).__name__}")
        left = len(<dict> value)
        if left:
            put_long(sink, left)
        while PyDict_Next(value, &position, &key, &item):
            left -= 1
            text, content = <object> key, <object> item
            put_text(sink, text)
            self.value.write(sink, content)
        if left:
            raise ValueError("the dict changed while it was written")
        return put_long(sink, 0)


cdef class NullableNode(Node):
    """A union of null and one other type."""

    cdef Node other
    cdef int64_t null_at

    cdef object read(self, Source *source):
        cdef int64_t at = get_long(source)
        if at == self.null_at:
            return None
        if at != 1 - self.null_at:
            raise MalformedError("no such member of the union")
        return self.other.read(source)

    cdef int write(self, Sink *sink, object value) except -1:
        if value is None:
            return put_long(sink, self.null_at)
        put_long(sink, 1 - self.null_at)
        return self.other.write(sink, value)

    cdef int skip(self, Source *source) except -1:
        cdef int64_t at = get_long(source)
        if at == self.null_at:
            return 0
        if at != 1 - self.null_at:
            raise MalformedError("no such member of the union")
        return self.other.skip(source)

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        cdef int64_t at = get_long(source)
        if at == self.null_at:
            return put_raw(sink, b"null", 4)
        if at != 1 - self.null_at:
            raise MalformedError("no such member of the union")
        return self.other.transcribe(source, sink)


cdef object _MISSING = object()


cdef class RecordNode(Node):
    """Fields in order. With a class, values are its instances, otherwise dicts; both are written."""

    cdef object record_class
    cdef tuple names
    cdef tuple nodes
    cdef tuple defaults
    #: All fields without values: a copy of it has its final size and order.
    cdef dict empty
    #: The names as JSON, each with what stands before and behind it.
    cdef tuple json_names

    cdef object read(self, Source *source):
        if self.record_class is None:
            return self.read_dict(source)
        return self.read_instance(source)

    cdef dict read_dict(self, Source *source):
        """The fields as a dict."""
        cdef dict values = PyDict_Copy(self.empty)
        cdef Py_ssize_t i
        for i in range(len(self.nodes)):
            PyDict_SetItem(values, self.names[i], (<Node> self.nodes[i]).read(source))
        return values

    cdef object read_instance(self, Source *source):
        cdef PyObject *values[FIELDS_MAX]
        cdef Py_ssize_t count = 0
        try:
            while count < len(self.nodes):
                value = (<Node> self.nodes[count]).read(source)
                Py_INCREF(value)
                values[count] = <PyObject *> value
                count += 1
            return PyObject_Vectorcall(self.record_class, values, 0, self.names)
        finally:
            while count:
                count -= 1
                Py_DECREF(<object> values[count])

    cdef int skip(self, Source *source) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.nodes)):
            (<Node> self.nodes[i]).skip(source)
        return 0

    cdef int write(self, Sink *sink, object value) except -1:
        cdef Py_ssize_t i
        cdef PyObject *found
        if isinstance(value, dict):
            for i in range(len(self.nodes)):
                found = PyDict_GetItemWithError(value, self.names[i])
                field = self.defaults[i] if found == NULL else <object> found
                if field is _MISSING:
                    raise ValueError(f"no value and no default for {self.names[i]}")
                (<Node> self.nodes[i]).write(sink, field)
        elif self.record_class is not None and PyObject_TypeCheck(value, <PyTypeObject *> self.record_class):
            for i in range(len(self.nodes)):
                (<Node> self.nodes[i]).write(sink, getattr(value, self.names[i]))
        else:
            raise TypeError(f"a record is expected, not {type(value).__name__}")
        return 0

    cdef int transcribe(self, Source *source, Sink *sink) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.nodes)):
            self.put_name(sink, i)
            (<Node> self.nodes[i]).transcribe(source, sink)
        return self.put_end(sink, len(self.nodes))

    cdef inline int put_name(self, Sink *sink, Py_ssize_t number) except -1:
        cdef bytes name = self.json_names[number]
        return put_raw(sink, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))

    cdef inline int put_end(self, Sink *sink, Py_ssize_t fields) except -1:
        return put_raw(sink, b"}", 1) if fields else put_raw(sink, b"{}", 2)


_PRIMITIVES = {
    "null": (NullNode, 0),
    "boolean": (BooleanNode, 1),
    "int": (IntNode, 1),
    "long": (LongNode, 1),
    "float": (FloatNode, 4),
    "double": (DoubleNode, 8),
    "bytes": (BytesNode, 1),
    "string": (StringNode, 1),
}


cdef class Compiler:
    """Makes nodes of a schema; remembers named types, which later parts of the schema name."""

    cdef dict classes
    cdef dict named

    def __cinit__(self, dict classes):
        self.classes = classes
        self.named = {}

    cdef Node node(self, object schema, str namespace, int depth):
        cdef Node node
        if depth > SCHEMA_DEPTH_MAX:
            raise UnsupportedSchemaError(f"more than {SCHEMA_DEPTH_MAX} levels")
        if isinstance(schema, list):
            return self.union(schema, namespace, depth)
        if isinstance(schema, str):
            if schema in _PRIMITIVES:
                node_class, smallest = _PRIMITIVES[schema]
                node = node_class()
                node.smallest = smallest
                return node
            known = self.named.get(_full_name(schema, namespace))
            if known is None:
                raise UnsupportedSchemaError(f"a type that is not complete here: {schema}")
            return known
        if not isinstance(schema, dict) or "logicalType" in schema:
            raise UnsupportedSchemaError("a logical type, or no schema")
        kind = schema.get("type")
        if kind == "array":
            return self.array(schema["items"], namespace, depth)
        if kind == "map":
            return self.map(schema["values"], namespace, depth)
        if kind in ("record", "enum", "fixed"):
            return self.named_type(kind, schema, namespace, depth)
        if isinstance(kind, (str, list, dict)):
            return self.node(kind, namespace, depth + 1)
        raise UnsupportedSchemaError("no type")

    cdef Node union(self, list members, str namespace, int depth):
        cdef NullableNode node = NullableNode()
        if len(members) != 2 or members.count("null") != 1:
            raise UnsupportedSchemaError("a union of other than null and one type")
        node.null_at = members.index("null")
        node.other = self.node(members[1 - node.null_at], namespace, depth + 1)
        if isinstance(node.other, NullableNode):
            raise UnsupportedSchemaError("a union in a union")
        node.smallest = 1
        return node

    cdef Node array(self, object items, str namespace, int depth):
        cdef ArrayNode node = ArrayNode()
        node.item = self.node(items, namespace, depth + 1)
        node.smallest = 1
        return node

    cdef Node map(self, object values, str namespace, int depth):
        cdef MapNode node = MapNode()
        node.value = self.node(values, namespace, depth + 1)
        node.smallest = 1
        return node

    cdef Node named_type(self, str kind, dict schema, str namespace, int depth):
        cdef Node node
        cdef EnumNode symbols
        name = _full_name(schema["name"], schema.get("namespace", namespace))
        if kind == "record":
            node = self.record(schema, name, depth)
        elif kind == "enum":
            symbols = EnumNode()
            symbols.symbols = tuple(schema["symbols"])
            symbols.numbers = {symbol: number for number, symbol in enumerate(symbols.symbols)}
            symbols.smallest = 1
            node = symbols
        else:
            node = FixedNode()
            node.smallest = schema["size"]
            if node.smallest < 0:
                raise UnsupportedSchemaError("a negative size")
        self.named[name] = node
        return node

    cdef Node record(self, dict schema, str name, int depth):
        cdef RecordNode node = RecordNode()
        cdef Node field
        namespace = name.rpartition(".")[0]
        fields = schema["fields"]
        if len(fields) > FIELDS_MAX:
            raise UnsupportedSchemaError(f"{len(fields)} fields, at most {FIELDS_MAX}")
        nodes = []
        for each in fields:
            field = self.node(each["type"], namespace, depth + 1)
            node.smallest = min(node.smallest + field.smallest, SMALLEST_MAX)
            nodes.append(field)
        node.nodes = tuple(nodes)
        node.names = tuple(_interned(each["name"]) for each in fields)
        node.defaults = tuple(_default(each) for each in fields)
        node.json_names = tuple((b"," if i else b"{") + _encode_json(name) + b":" for i, name in enumerate(node.names))
        node.empty = dict.fromkeys(node.names)
        if len(node.empty) != len(node.names):
            raise UnsupportedSchemaError("two fields of one name")
        record_class = self.classes.get(name.rpartition(".")[2])
        if record_class is not None:
            if not isinstance(record_class, type) or getattr(record_class, "__struct_fields__", None) != node.names:
                raise UnsupportedSchemaError(f"the class of {name} has other fields than the schema")
            node.record_class = record_class
        return node


def _interned(name):
    from sys import intern

    return intern(name)


def _default(field):
    """What is written when a dict has no such field: the default; null where that is possible; nothing otherwise."""
    if "default" in field:
        return field["default"]
    kind = field["type"]
    return None if kind == "null" or (isinstance(kind, list) and "null" in kind) else _MISSING


def _full_name(name, namespace):
    return f"{namespace}.{name}" if namespace and "." not in name else name


cdef RecordNode compiled(dict schema, dict classes):
    cdef Node root
    try:
        root = Compiler(classes).node(schema, "", 0)
    except (KeyError, TypeError, AttributeError) as error:
        raise UnsupportedSchemaError(f"not a schema: {type(error).__name__}") from None
    if not isinstance(root, RecordNode):
        raise UnsupportedSchemaError("not a record")
    return root


cdef class Body:
    """One kind of record, without what comes before it on the wire. See the stub for what is promised."""

    cdef RecordNode root
    cdef Py_ssize_t at
    #: What a split gives of each field: whether it is read, and the fields that are, without values.
    cdef bint reads[FIELDS_MAX]
    cdef dict empty

    def __cinit__(self, dict schema not None, dict classes not None, Py_ssize_t at=0, object reads=None):
        self.root = compiled(schema, classes)
        if not 0 <= at <= len(self.root.nodes):
            raise ValueError(f"no field number {at}")
        self.at = at
        if reads is not None and not set(reads) <= set(self.root.names):
            raise ValueError("a field that is not there")
        self.empty = {}
        for i, name in enumerate(self.root.names):
            self.reads[i] = reads is None or name in reads
            if self.reads[i]:
                self.empty[name] = None

    def read(self, bytes value not None, Py_ssize_t start):
        cdef Source source = open_at(value, start)
        return self.root.read(&source)

    def split(self, bytes value not None, Py_ssize_t start):
        cdef Source source = open_at(value, start)
        cdef const unsigned char *carried = NULL
        cdef dict values = PyDict_Copy(self.empty)
        cdef const char *data = PyBytes_AS_STRING(value)
        cdef Py_ssize_t i
        cdef Node node
        for i in range(len(self.root.nodes)):
            if i == self.at:
                carried = source.at
            node = <Node> self.root.nodes[i]
            if self.reads[i]:
                PyDict_SetItem(values, self.root.names[i], node.read(&source))
            else:
                node.skip(&source)
        if self.at == len(self.root.nodes):
            carried = source.at
        return values, PyBytes_FromStringAndSize(
            <const char *> carried, data + PyBytes_GET_SIZE(value) - <const char *> carried
        )

    def write(self, bytes header not None, object value, bytes carried not None=b""):
        cdef char room[STACK_BYTES]
        cdef Sink sink
        sink.data, sink.size, sink.room, sink.on_heap = room, 0, STACK_BYTES, False
        try:
            put_raw(&sink, PyBytes_AS_STRING(header), PyBytes_GET_SIZE(header))
            self.root.write(&sink, value)
            put_raw(&sink, PyBytes_AS_STRING(carried), PyBytes_GET_SIZE(carried))
            return PyBytes_FromStringAndSize(sink.data, sink.size)
        finally:
            if sink.on_heap:
                PyMem_Free(sink.data)


cdef Source open_at(bytes value, Py_ssize_t start) except *:
    cdef Source source
    cdef const unsigned char *data = <const unsigned char *> PyBytes_AS_STRING(value)
    if not 0 <= start <= PyBytes_GET_SIZE(value):
        raise TruncatedError("it ends before its header does")
    source.at, source.end = data + start, data + PyBytes_GET_SIZE(value)
    return source


cdef class Transcript:
    """One kind of record as JSON. See the stub for what is promised."""

    cdef RecordNode root
    #: By field: where its value stands in what is given, -1 when it is only in the JSON.
    cdef int places[FIELDS_MAX]
    cdef Py_ssize_t size
    #: The last field shown; the one after it is left out or, with ``inner``, shown as the record that is in its bytes.
    cdef Py_ssize_t shown
    cdef RecordNode inner

    def __cinit__(self, dict schema not None, dict classes not None, tuple picked not None, str body not None="", dict of=None):
        self.root = compiled(schema, classes)
        self.shown = len(self.root.nodes)
        self.size = 1 + len(picked)
        for i, name in enumerate(self.root.names):
            self.places[i] = 1 + picked.index(name) if name in picked else -1
        if len(set(picked) & set(self.root.names)) != len(picked):
            raise ValueError("a field that is not there, or named twice")
        if body:
            self.shown -= 1
            if body in picked or self.root.names[self.shown] != body or not isinstance(self.root.nodes[self.shown], BytesNode):
                raise ValueError(f"{body} must be the last field, of bytes, and only shown")
            self.inner = None if of is None else compiled(of, {})

    def read(self, bytes value not None, Py_ssize_t start):
        cdef char room[STACK_BYTES]
        cdef Source source = open_at(value, start)
        cdef Source inside
        cdef const unsigned char *at
        cdef Py_ssize_t i, length
        cdef Node node
        cdef Sink sink
        cdef list found = [None] * self.size
        sink.data, sink.size, sink.room, sink.on_heap = room, 0, STACK_BYTES, False
        try:
            for i in range(self.shown):
                node = <Node> self.root.nodes[i]
                self.root.put_name(&sink, i)
                if self.places[i] >= 0:
                    at = source.at
                    found[self.places[i]] = node.read(&source)
                    source.at = at
                node.transcribe(&source, &sink)
            if self.shown < len(self.root.nodes):
                inside.at = <const unsigned char *> get_bytes(&source, &length)
                inside.end = inside.at + length
                if self.inner is not None:
                    self.root.put_name(&sink, self.shown)
                    self.inner.transcribe(&inside, &sink)
            self.root.put_end(&sink, self.shown)
            found[0] = PyUnicode_DecodeUTF8(sink.data, sink.size, NULL)
            return tuple(found)
        finally:
            if sink.on_heap:
                PyMem_Free(sink.data)


cdef enum:
    KEPT = -1
    DESCENDED = -2
    CARRIED = -3
    OWNERS = 6
    IDS = 3


cdef class Cuts:
    """What is done with each field of a record, beside its nodes."""

    #: The owner's place, or KEPT, DESCENDED, CARRIED.
    cdef int owner[FIELDS_MAX]
    #: The place of the id that a field gives, or -1.
    cdef int names[FIELDS_MAX]
    #: What an empty value is written as.
    cdef char empty[FIELDS_MAX]
    #: Of fields that are descended into.
    cdef list inner
    cdef RecordNode root

    def __cinit__(self, RecordNode root, dict owned, dict ids, str before, str body):
        cdef Py_ssize_t i
        cdef Node node
        self.root = root
        self.inner = [None] * len(root.nodes)
        for i in range(len(root.nodes)):
            path = before + root.names[i]
            node = <Node> root.nodes[i]
            self.names[i] = ids.get(path, -1) if isinstance(node, StringNode) else -1
            self.empty[i] = <char> (2 * (<NullableNode> node).null_at) if isinstance(node, NullableNode) else 0
            if body and root.names[i] == body:
                self.owner[i] = CARRIED
            elif path in owned:
                if not isinstance(node, (StringNode, BytesNode, MapNode, ArrayNode, NullableNode)):
                    raise UnsupportedSchemaError(f"{path} cannot be empty")
                self.owner[i] = owned[path]
            elif any(each.startswith(path + ".") for each in owned):
                self.owner[i] = DESCENDED
                if isinstance(node, NullableNode):
                    node = (<NullableNode> node).other
                if not isinstance(node, RecordNode):
                    raise UnsupportedSchemaError(f"personal data in a list: {path}")
                self.inner[i] = Cuts(<RecordNode> node, owned, ids, path + ".", "")
            else:
                self.owner[i] = KEPT


cdef struct Shears:
    Sink rest
    Sink pieces[OWNERS]


cdef inline int put_piece(Sink *sink, Py_ssize_t offset, bint inside, bint taken, const char *data, Py_ssize_t size) except -1:
    put_number(sink, 4 * <uint64_t> offset + 2 * inside + taken)
    put_number(sink, size)
    return put_raw(sink, data, size)


cdef int cut_record(Cuts cuts, Source *source, Shears *shears, list ids, Py_ssize_t base, bint inside) except -1:
    """``base`` is where offsets are counted from."""
    cdef Py_ssize_t i, size
    cdef const unsigned char *began
    #: From here on nothing is copied yet.
    cdef const unsigned char *kept = source.at
    cdef Node node
    cdef int64_t branch
    for i in range(len(cuts.root.nodes)):
        node = <Node> cuts.root.nodes[i]
        began = source.at
        if cuts.owner[i] == KEPT:
            node.skip(source)
            continue
        if began > kept:
            put_raw(&shears.rest, <const char *> kept, began - kept)
        kept = began
        if cuts.owner[i] == DESCENDED:
            if isinstance(node, NullableNode):
                branch = get_long(source)
                put_raw(&shears.rest, <const char *> began, source.at - began)
                kept = source.at
                if branch == (<NullableNode> node).null_at:
                    continue
                if branch != 1 - (<NullableNode> node).null_at:
                    raise MalformedError("no such member of the union")
            cut_record(<Cuts> cuts.inner[i], source, shears, ids, base, inside)
            kept = source.at
        elif cuts.owner[i] >= 0:
            if cuts.names[i] >= 0 and not ids[cuts.names[i]]:
                ids[cuts.names[i]] = node.read(source)
            else:
                node.skip(source)
            size = source.at - began
            if size != 1 or <char> began[0] != cuts.empty[i]:
                put_piece(&shears.pieces[cuts.owner[i]], shears.rest.size - base, inside, True, <const char *> began, size)
            take(&shears.rest, 1)[0] = cuts.empty[i]
            kept = source.at
    if source.at > kept:
        put_raw(&shears.rest, <const char *> kept, source.at - kept)
    return 0


cdef class Cutter:
    """One kind of record, cut. See the stub for what is promised."""

    cdef Cuts cuts
    #: Of the PTR that it carries in its last field.
    cdef Cuts carried

    def __cinit__(self, dict schema not None, dict owned not None, dict ids not None, str body not None="", dict of=None, dict of_owned=None):
        self.cuts = Cuts(compiled(schema, {}), owned, ids, "", body)
        self.carried = None
        if body:
            if self.cuts.root.names[len(self.cuts.root.nodes) - 1] != body:
                raise ValueError(f"{body} must be the last field")
            self.carried = Cuts(compiled(of, {}), of_owned, ids, "", "")

    def cut(self, bytes value not None, Py_ssize_t start):
        cdef char room[STACK_BYTES]
        cdef char rooms[OWNERS * 256]
        cdef Shears shears
        cdef Source source = open_at(value, start)
        cdef Py_ssize_t carried_at = 0
        cdef Py_ssize_t i
        cdef list ids = ["", "", ""]
        cdef bint found = False
        shears.rest.data, shears.rest.size, shears.rest.room, shears.rest.on_heap = room, 0, STACK_BYTES, False
        for i in range(OWNERS):
            shears.pieces[i].data, shears.pieces[i].size = rooms + 256 * i, 0
            shears.pieces[i].room, shears.pieces[i].on_heap = 256, False
        try:
            put_raw(&shears.rest, PyBytes_AS_STRING(value), start)
            cut_record(self.cuts, &source, &shears, ids, 0, False)
            if self.carried is not None:
                carried_at = self.cut_carried(&source, &shears, ids)
            if source.at < source.end:
                put_piece(&shears.pieces[OWNERS - 1], shears.rest.size, False, False, <const char *> source.at, source.end - source.at)
            for i in range(OWNERS):
                found = found or shears.pieces[i].size > 0
            if not found:
                return None
            return (
                PyBytes_FromStringAndSize(shears.rest.data, shears.rest.size), carried_at, ids[0], ids[1], ids[2],
                PyBytes_FromStringAndSize(shears.pieces[0].data, shears.pieces[0].size),
                PyBytes_FromStringAndSize(shears.pieces[1].data, shears.pieces[1].size),
                PyBytes_FromStringAndSize(shears.pieces[2].data, shears.pieces[2].size),
                PyBytes_FromStringAndSize(shears.pieces[3].data, shears.pieces[3].size),
                PyBytes_FromStringAndSize(shears.pieces[4].data, shears.pieces[4].size),
                PyBytes_FromStringAndSize(shears.pieces[5].data, shears.pieces[5].size),
            )
        finally:
            if shears.rest.on_heap:
                PyMem_Free(shears.rest.data)
            for i in range(OWNERS):
                if shears.pieces[i].on_heap:
                    PyMem_Free(shears.pieces[i].data)

    cdef Py_ssize_t cut_carried(self, Source *source, Shears *shears, list ids) except -1:
        """The PTR in its bytes; one that is damaged is cut as a whole. Gives where its length stands, 0 for one without pieces."""
        cdef const unsigned char *began = source.at
        cdef Py_ssize_t length, prefix, i
        cdef Py_ssize_t at = shears.rest.size
        cdef Py_ssize_t before[OWNERS]
        cdef Source inside
        cdef list inner_ids = list(ids)
        cdef Sink number
        cdef char digits[16]
        cdef bint found = False
        inside.at = <const unsigned char *> get_bytes(source, &length)
        inside.end = inside.at + length
        prefix = inside.at - began
        for i in range(OWNERS):
            before[i] = shears.pieces[i].size
        number.data, number.size, number.room, number.on_heap = digits, 0, 16, False
        put_number(&number, 2 * <uint64_t> length)
        try:
            if number.size != prefix:
                raise MalformedError("a length that is written longer than it need be")
            # What is left is at most as long, and so is its length: room for the longest, moved when it is known.
            take(&shears.rest, prefix)
            cut_record(self.carried, &inside, shears, inner_ids, at + prefix, True)
            if inside.at != inside.end:
                raise MalformedError("more than the PTR")
        except Exception:
            shears.rest.size = at
            for i in range(OWNERS):
                shears.pieces[i].size = before[i]
            if length:
                put_piece(&shears.pieces[OWNERS - 1], at, False, True, <const char *> began, source.at - began)
            take(&shears.rest, 1)[0] = 0
            return 0
        for i in range(IDS):
            ids[i] = inner_ids[i]
        length = shears.rest.size - at - prefix
        number.size = 0
        put_number(&number, 2 * <uint64_t> length)
        memmove(shears.rest.data + at + number.size, shears.rest.data + at + prefix, length)
        memcpy(shears.rest.data + at, digits, number.size)
        shears.rest.size = at + number.size + length
        for i in range(OWNERS):
            found = found or shears.pieces[i].size > before[i]
        return at if found else 0
