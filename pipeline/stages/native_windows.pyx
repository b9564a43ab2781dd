# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False, auto_pickle=False
"""Profiles, compiled: what is in their windows, in one pass over the buckets instead of a sum for each window, and payments
counted in them.

Same numbers and rows as :mod:`pipeline.stages.windows` and :mod:`pipeline.stages.profiles`, which stay the reference and do what
does not fit here.
"""

from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.math cimport log2, rint, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef extern from "Python.h":
    long long PyLong_AsLongLong(object value) except? -1
    double PyLong_AsDouble(object value) except? -1
    object PyByteArray_FromStringAndSize(const char *string, Py_ssize_t size)
    char *PyByteArray_AS_STRING(object array)

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define fetch_ahead(address) __builtin_prefetch(address)
    #else
    #define fetch_ahead(address) ((void) 0)
    #endif
    /* Of an integer: half of them lie across two lines of the cache. */
    #define fetch_number(number) (fetch_ahead(number), fetch_ahead((char *) (number) + 24))
    #define list_items(list) (((PyListObject *) (list))->ob_item)
    """
    bint __builtin_add_overflow(int64_t a, int64_t b, int64_t *sum) nogil
    bint __builtin_sub_overflow(int64_t a, int64_t b, int64_t *difference) nogil
    bint __builtin_mul_overflow(int64_t a, int64_t b, int64_t *product) nogil
    void fetch_ahead(void *address) nogil
    void fetch_number(PyObject *number) nogil
    PyObject **list_items(object list)


cdef enum:
    BANDS = 7
    DAY_HOURS = 24
    WEEK_HOURS = 168
    MONTH_HOURS = 720
    HOUR_MS = 3600000
    #: Hours of some weeks, and logarithms: half a megabyte.
    NUMBERS_MAX = 8192


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
        if age < DAY_HOURS:
            counts[0] += 1
        if age < WEEK_HOURS:
            counts[1] += 1
        if windows == 3 and age < MONTH_HOURS:
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



def doubles(rows, Py_ssize_t width):
    """The numbers of all ``rows``, lists of ``width`` whole numbers, as 64 bit floats one after the other. Raises ValueError for
    a row of another length."""
    cdef list all_rows = list(rows)
    cdef list row
    cdef Py_ssize_t at
    made = PyByteArray_FromStringAndSize(NULL, len(all_rows) * width * sizeof(double))
    cdef double *number = <double *> PyByteArray_AS_STRING(made)
    for each in all_rows:
        row = each if type(each) is list else list(each)
        if PyList_GET_SIZE(row) != width:
            raise ValueError(f"{PyList_GET_SIZE(row)} numbers in a row, {width} are expected")
        for at in range(width):
            number[0] = PyLong_AsDouble(<object> PyList_GET_ITEM(row, at))
            number += 1
    return made


cdef inline void fetch(tuple columns, tuple names):
    """Ask memory for what a row holds, all at once: its numbers lie wherever they were made, and asked for one after the
    other they cost more than all that is done with them."""
    cdef Py_ssize_t at
    cdef Py_ssize_t size
    cdef Py_ssize_t position
    cdef PyObject **items
    cdef PyObject *name
    cdef PyObject *last
    for each in columns:
        fetch_ahead(<void *> each)
    for each in names:
        fetch_ahead(<void *> each)
    for each in columns:
        items = list_items(each)
        for at in range(0, PyList_GET_SIZE(each), 8):
            fetch_ahead(items + at)
    for each in columns:
        items = list_items(each)
        for at in range(PyList_GET_SIZE(each)):
            fetch_number(items[at])
    for each in names:
        position = 0
        while PyDict_Next(each, &position, &name, &last):
            fetch_number(last)


cdef bint complete(tuple columns) except -1:
    """Whether all columns are as long as the first, the hours; those of a row of an earlier version end early."""
    cdef Py_ssize_t length = PyList_GET_SIZE(<list?> columns[0])
    for each in columns:
        if PyList_GET_SIZE(<list?> each) != length:
            return False
    return True


cdef int forget(tuple columns, int64_t last_hour) except -1:
    """Drop the buckets until ``last_hour``."""
    cdef list hours = <list> columns[0]
    cdef list column
    cdef Py_ssize_t gone = 0
    while gone < PyList_GET_SIZE(hours) and PyLong_AsLongLong(<object> PyList_GET_ITEM(hours, gone)) <= last_hour:
        gone += 1
    if gone:
        for each in columns:
            column = <list> each
            del column[:gone]
    return 0


cdef int drop(dict last_hours, int64_t last_hour) except -1:
    """Forget names that were not used after ``last_hour``."""
    cdef PyObject *name
    cdef PyObject *last
    cdef Py_ssize_t position = 0
    cdef list gone = None
    while PyDict_Next(last_hours, &position, &name, &last):
        if PyLong_AsLongLong(<object> last) <= last_hour:
            if gone is None:
                gone = []
            gone.append(<object> name)
    if gone is not None:
        for each in gone:
            del last_hours[each]
    return 0


cdef int64_t last_use(dict last_hours, str name, int64_t never) except? -1:
    cdef PyObject *last = PyDict_GetItemWithError(last_hours, name)
    return never if last is NULL else PyLong_AsLongLong(<object> last)


cdef int use(dict last_hours, str name, int64_t hour, object hour_number, Py_ssize_t limit) except -1:
    """``name`` was used in ``hour``. Now and then the oldest beyond ``limit`` are forgotten."""
    if last_use(last_hours, name, -1) < hour:
        last_hours[name] = hour_number
        if len(last_hours) > limit + limit // 4:
            newest = sorted(zip(last_hours.values(), last_hours))[-limit:]
            last_hours.clear()
            last_hours.update([(each, last) for last, each in newest])
    return 0


cdef int64_t latest(dict last_hours) except? -1:
    cdef PyObject *name
    cdef PyObject *last
    cdef Py_ssize_t position = 0
    cdef int64_t found = -1
    while PyDict_Next(last_hours, &position, &name, &last):
        found = max(found, PyLong_AsLongLong(<object> last))
    return found


cdef int raise_last(list column, object by) except -1:
    cdef Py_ssize_t at = PyList_GET_SIZE(column) - 1
    column[at] = column[at] + by
    return 0


cdef class Counter:
    """Counts payments as they usually come: in or after the last hour of a complete row. Of all else it says None and changes
    nothing: that is the reference's.

    The limits are those of :mod:`pipeline.stages.profiles`. ``payer_facts`` and ``z_milli`` are the references of what may not fit
    64 bits.
    """

    cdef Py_ssize_t terminals_max, cards_max, countries_max
    cdef int64_t small_max, log_steps, earlier_min, z_max
    cdef double deviation_min
    cdef object payer_facts, z_milli
    cdef dict numbers

    def __init__(
        self,
        *,
        terminals_max,
        cards_max,
        countries_max,
        small_max,
        log_steps,
        earlier_min,
        deviation_min,
        z_max,
        payer_facts,
        z_milli,
    ):
        self.terminals_max, self.cards_max, self.countries_max = terminals_max, cards_max, countries_max
        self.small_max, self.log_steps, self.earlier_min = small_max, log_steps, earlier_min
        self.deviation_min, self.z_max = deviation_min, z_max
        self.payer_facts, self.z_milli = payer_facts, z_milli
        self.numbers = {}

    cdef object one_of(self, object number):
        """The same object for equal numbers: hours and logarithms are in all rows, and few are near the processor at a time
        when each row has its own."""
        cdef PyObject *known = PyDict_GetItemWithError(self.numbers, number)
        if known is not NULL:
            return <object> known
        if len(self.numbers) >= NUMBERS_MAX:
            self.numbers.clear()
        self.numbers[number] = number
        return number

    def add_payer_payment(
        self, profile, at_ms, amount_minor, str terminal not None, str card not None, str country not None, str home not None, keep_hours
    ):
        """See :func:`pipeline.stages.profiles.add_payer_payment`; None, and nothing is changed, where that has to do it."""
        cdef list hours = profile.hours
        cdef list counts = profile.counts
        cdef list amounts = profile.amounts
        cdef list smalls = profile.smalls
        cdef list logs = profile.logs
        cdef list squares = profile.squares
        cdef dict terminals = profile.terminals
        cdef dict cards = profile.cards
        cdef dict countries = profile.countries
        cdef str last_country = profile.last_country
        cdef tuple columns = (hours, counts, amounts, smalls, logs, squares)
        cdef tuple row
        cdef int64_t now, amount, keep, last_ms, newest, hour, month, logarithm
        cdef int64_t since_last_s = -1
        cdef bint new = False
        cdef bint country_new = False
        cdef bint begun = PyList_GET_SIZE(hours) > 0
        cdef bint small
        cdef list facts
        fetch(columns, (terminals, cards))
        try:
            now, amount, keep = PyLong_AsLongLong(at_ms), PyLong_AsLongLong(amount_minor), PyLong_AsLongLong(keep_hours)
            newest = PyLong_AsLongLong(<object> PyList_GET_ITEM(hours, PyList_GET_SIZE(hours) - 1)) if begun else 0
            last_ms = PyLong_AsLongLong(profile.last_ms)
        except OverflowError:
            return None
        hour = now // HOUR_MS
        if now < 0 or keep <= 0 or newest < 0 or hour < newest or not complete(columns):
            return None
        if profile.credits or profile.charged_back:
            return None
        month = hour - MONTH_HOURS
        small = amount <= self.small_max
        logarithm = 1 + <int64_t> rint(self.log_steps * log2(<double> amount)) if amount > 0 else 0
        if 0 <= last_ms <= now:
            since_last_s = (now - last_ms) // 1000
        if terminal:
            new = last_use(terminals, terminal, month) <= month
        if country and countries and last_use(countries, country, month) <= month:
            country_new = latest(countries) > month
        hour_number = self.one_of(hour)
        if hour > newest or not begun:
            hours.append(hour_number)
            counts.append(1)
            amounts.append(amount_minor)
            smalls.append(1 if small else 0)
            logs.append(self.one_of(logarithm))
            squares.append(self.one_of(logarithm * logarithm))
            if begun:
                forget(columns, hour - keep)
                midnight = hour - hour % DAY_HOURS
                if midnight > newest:
                    drop(terminals, midnight - keep)
                    drop(cards, midnight - min(WEEK_HOURS, keep))
                    drop(countries, midnight - keep)
        else:
            raise_last(counts, 1)
            raise_last(amounts, amount_minor)
            if small:
                raise_last(smalls, 1)
            raise_last(logs, logarithm)
            raise_last(squares, logarithm * logarithm)
        if now > last_ms or (now == last_ms and country > last_country):
            profile.last_ms, profile.last_country = at_ms, country
        if terminal:
            use(terminals, terminal, hour, hour_number, self.terminals_max)
        if country:
            use(countries, country, hour, hour_number, self.countries_max)
        if card:
            use(cards, card, hour, hour_number, self.cards_max)
        row = (hours, counts, amounts, smalls, logs, squares, terminals, cards, hour, self.terminals_max, self.cards_max)
        try:
            facts, logs_30d, squares_30d = payer_facts(*row)
        except OverflowError:
            facts, logs_30d, squares_30d = self.payer_facts(*row)
        earlier = facts[4] - 1
        try:
            deviations = self.deviations(logs_30d, squares_30d, logarithm, earlier)
        except OverflowError:
            deviations = self.z_milli(logs_30d, squares_30d, logarithm, earlier)
        facts += (
            since_last_s,
            deviations,
            1 if new else 0,
            1 if country and home and country != home else 0,
            1 if country and last_country and country != last_country else 0,
            1 if country_new else 0,
            0,
            0,
        )
        return facts

    cdef int64_t deviations(self, logs, squares, int64_t logarithm, int64_t earlier) except? -1:
        """See ``_z_milli`` of :mod:`pipeline.stages.profiles`. Raises OverflowError for what does not fit."""
        cdef int64_t total, rest, spread, square
        cdef double deviation
        if earlier < self.earlier_min or logs is None:
            return 0
        if (
            __builtin_sub_overflow(PyLong_AsLongLong(logs), logarithm, &total)
            or __builtin_sub_overflow(PyLong_AsLongLong(squares), logarithm * logarithm, &rest)
            or __builtin_mul_overflow(total, total, &square)
            or __builtin_mul_overflow(earlier, rest, &spread)
            or __builtin_sub_overflow(spread, square, &spread)
        ):
            raise OverflowError("a sum of more than 64 bits")
        deviation = max(sqrt(<double> max(spread, 0)) / earlier, self.deviation_min)
        return max(-self.z_max, min(self.z_max, <int64_t> rint(1000 * (logarithm - <double> total / earlier) / deviation)))

    def add_payee_payment(self, profile, at_ms, amount_minor, str card not None, bint new_payer, keep_hours):
        """See :func:`pipeline.stages.profiles.add_payee_payment`; None, and nothing is changed, where that has to do it."""
        cdef list hours = profile.hours
        cdef list counts = profile.counts
        cdef list amounts = profile.amounts
        cdef list smalls = profile.smalls
        cdef list chargebacks = profile.chargebacks
        cdef list new_payers = profile.new_payers
        cdef dict cards = profile.cards
        cdef dict charged_back = profile.charged_back
        cdef tuple columns = (hours, counts, amounts, smalls, chargebacks, new_payers)
        cdef int64_t now, amount, keep, newest, hour
        cdef bint begun = PyList_GET_SIZE(hours) > 0
        cdef bint small
        fetch(columns, (cards,))
        try:
            now, amount, keep = PyLong_AsLongLong(at_ms), PyLong_AsLongLong(amount_minor), PyLong_AsLongLong(keep_hours)
            newest = PyLong_AsLongLong(<object> PyList_GET_ITEM(hours, PyList_GET_SIZE(hours) - 1)) if begun else 0
        except OverflowError:
            return None
        hour = now // HOUR_MS
        if now < 0 or keep <= 0 or newest < 0 or hour < newest or not complete(columns) or profile.terminals:
            return None
        small = amount <= self.small_max
        hour_number = self.one_of(hour)
        if hour > newest or not begun:
            hours.append(hour_number)
            counts.append(1)
            amounts.append(amount_minor)
            smalls.append(1 if small else 0)
            chargebacks.append(0)
            new_payers.append(1 if new_payer else 0)
            if begun:
                forget(columns, hour - keep)
                drop(charged_back, hour - keep)
                midnight = hour - hour % DAY_HOURS
                if midnight > newest:
                    drop(cards, midnight - min(WEEK_HOURS, keep))
        else:
            raise_last(counts, 1)
            raise_last(amounts, amount_minor)
            if small:
                raise_last(smalls, 1)
            if new_payer:
                raise_last(new_payers, 1)
        if card:
            use(cards, card, hour, hour_number, self.cards_max)
        return True
