# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False, auto_pickle=False
"""The alignment of two names and the search for sounds, compiled: what a question to a list spends most of its time with.

Same answers, to the last bit of each cost, as :mod:`pipeline.stages.alignment` and :mod:`~pipeline.stages.spelling`, which stay the reference
(``tests/unit/test_native_names.py``). Names and words longer than anybody's are given to them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND, PyUnicode_READ
from libc.math cimport pow
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport abs

from rapidfuzz.distance import OSA

from pipeline.stages import alignment as reference
from pipeline.stages import selection, spelling

cdef enum:
    WORDS_MAX = 32  # of a name that is aligned here
    CHARS_MAX = 48  # of a word that is measured here
    HITS_MAX = 254  # words that a name is looked for by here
    SYLLABLES_MAX = 3  # letters that a wrong character counts at most
    KNOWN_MAX = 32768  # words kept with what they are compared by, some 10 MB; then all are forgotten

cdef double MISTAKE_COST = reference.MISTAKE_COST
cdef double USUAL_CHARS = reference.USUAL_CHARS
cdef double SHORT_POWER = reference.SHORT_POWER
cdef double GROWTH = reference.GROWTH
cdef double DIFFERENT_SHARE = reference.DIFFERENT_SHARE
cdef double CONFLICT_COST = reference.CONFLICT_COST
cdef double INITIAL_COST = reference.INITIAL_COST
cdef int SYLLABLE_LETTERS = reference.SYLLABLE_LETTERS
assert SYLLABLE_LETTERS <= SYLLABLES_MAX
cdef int SPACE_MISTAKES_MAX = reference.SPACE_MISTAKES_MAX
cdef Py_ssize_t RARE_NAMES_MAX = selection.RARE_NAMES_MAX
cdef Py_ssize_t COMPARED_MAX = selection.COMPARED_MAX
cdef double SAME_SOUND_COST = spelling.SAME_SOUND_COST
cdef double FAMILY_COST = spelling.FAMILY_COST
cdef double VOWELS_COST = spelling.VOWELS_COST
cdef double CONSONANT_COST = spelling.CONSONANT_COST
cdef int CONSONANTS_MIN = spelling.CONSONANTS_MIN
cdef int MISTAKES_MAX = spelling.MISTAKES_MAX
cdef object _osa = OSA.distance
cdef object _heard = spelling.heard_of.__wrapped__  # What it finds is kept here.
cdef object _consonants = spelling.consonants_of
cdef object _select = selection.select
cdef object _sounds_near = spelling.sounds_near
cdef object _weight_of = reference.weight_of


# -- wrong letters ----------------------------------------------------------------------------------------------------

cdef int distance(int left_kind, const void *left, Py_ssize_t left_size, int right_kind, const void *right,
                  Py_ssize_t right_size, int most) noexcept:
    """Letters that are wrong (optimal string alignment); ``most + 1`` when more than ``most`` are. Sizes to CHARS_MAX."""
    cdef int rows[3][CHARS_MAX + 1]
    cdef Py_UCS4 letters[CHARS_MAX]
    cdef Py_UCS4 letter, before = 0
    cdef Py_ssize_t i, j
    cdef int found, least, least_before = 0
    cdef int *two_above
    cdef int *above
    cdef int *row
    if left_size - right_size > most or right_size - left_size > most:
        return most + 1
    for j in range(right_size):
        letters[j] = PyUnicode_READ(right_kind, <void *> right, j)
        rows[0][j] = <int> j
    rows[0][right_size] = <int> right_size
    for i in range(left_size):
        two_above, above, row = rows[(i + 2) % 3], rows[i % 3], rows[(i + 1) % 3]
        letter = PyUnicode_READ(left_kind, <void *> left, i)
        row[0] = least = <int> i + 1
        for j in range(right_size):
            if letter == letters[j]:
                found = above[j]
            else:
                found = above[j] if above[j] < above[j + 1] else above[j + 1]
                if row[j] < found:
                    found = row[j]
                found += 1
                if i and j and letter == letters[j - 1] and before == letters[j] and two_above[j - 1] + 1 < found:
                    found = two_above[j - 1] + 1
            row[j + 1] = found
            if found < least:
                least = found
        if least > most and least_before > most:  # Two, since letters that are swapped reach back over one row.
            return most + 1
        least_before, before = least, letter
    found = rows[left_size % 3][right_size]
    return found if found <= most else most + 1


cdef int apart(str left, str right, int most) except -1:
    """The same of any two texts."""
    cdef Py_ssize_t left_size = PyUnicode_GET_LENGTH(left), right_size = PyUnicode_GET_LENGTH(right)
    if left_size > CHARS_MAX or right_size > CHARS_MAX:
        return _osa(left, right, score_cutoff=most)
    return distance(
        PyUnicode_KIND(left), PyUnicode_DATA(left), left_size, PyUnicode_KIND(right), PyUnicode_DATA(right), right_size, most
    )


def sounds_near(str heard, list blocks, int wrong_max):
    """Places of the sounds in ``blocks`` with no more than ``wrong_max`` other letters than ``heard``.

    A block is a text of sounds, a space between them, and their places, each as four bytes in the order of this machine.
    """
    cdef str texts
    cdef bytes places
    cdef set found = set()
    cdef const void *text
    cdef const int32_t *place
    cdef int kind, heard_kind = PyUnicode_KIND(heard)
    cdef const void *heard_text = PyUnicode_DATA(heard)
    cdef Py_ssize_t heard_size = PyUnicode_GET_LENGTH(heard), end, start, at, size
    if heard_size > CHARS_MAX:
        return _sounds_near(heard, blocks, wrong_max)
    for texts, places in blocks:
        text, kind, end = PyUnicode_DATA(texts), PyUnicode_KIND(texts), PyUnicode_GET_LENGTH(texts)
        place = <const int32_t *> PyBytes_AS_STRING(places)
        start = 0
        for at in range(end + 1):
            if at < end and PyUnicode_READ(kind, <void *> text, at) != u" ":
                continue
            size = at - start
            if (
                size - heard_size <= wrong_max and size <= CHARS_MAX
                and distance(heard_kind, heard_text, heard_size, kind, <const char *> text + start * kind, size, wrong_max)
                <= wrong_max
            ):
                found.add(place[0])
            elif size > CHARS_MAX and size - heard_size <= wrong_max:
                return _sounds_near(heard, blocks, wrong_max)
            place += 1
            start = at + 1
    return found


# -- which names are compared -----------------------------------------------------------------------------------------

cdef struct Mark:
    unsigned char found_by  # words
    unsigned char last  # of them, counted from one
    unsigned char is_rare
    unsigned char is_common  # It has the commonest word too.


#: One for each listed name of the longest list, all zero between two questions. Nothing below lets another thread in.
cdef Mark *_marks = NULL
cdef Py_ssize_t _marks_count = 0


def select(list hits, bytes sizes, int size):
    """:func:`pipeline.stages.selection.select`."""
    global _marks, _marks_count
    cdef Py_ssize_t names_count = PyBytes_GET_SIZE(sizes), hits_count = len(hits), rare_count = hits_count
    cdef Py_ssize_t total = 0, touched = 0, kept = 0, number, i, names_in
    cdef const unsigned char *size_of = <const unsigned char *> PyBytes_AS_STRING(sizes)
    cdef const int32_t *names
    cdef int32_t *found
    cdef int64_t *ranked
    cdef Mark *mark
    cdef bytes hit
    cdef int count
    for hit in hits:
        total += PyBytes_GET_SIZE(hit) // <Py_ssize_t> sizeof(int32_t)
    if not total:
        return []
    if hits_count > HITS_MAX:
        return _select(hits, sizes, size)
    if names_count > _marks_count:
        PyMem_Free(_marks)
        _marks_count = 0
        _marks = <Mark *> PyMem_Calloc(names_count, sizeof(Mark))
        if _marks is NULL:
            raise MemoryError
        _marks_count = names_count
    found = <int32_t *> PyMem_Malloc(total * sizeof(int32_t))
    ranked = <int64_t *> PyMem_Malloc(total * sizeof(int64_t))
    if found is NULL or ranked is NULL:
        PyMem_Free(found)
        PyMem_Free(ranked)
        raise MemoryError
    if size > 1 and PyBytes_GET_SIZE(hits[hits_count - 1]) > <Py_ssize_t> sizeof(int32_t) * RARE_NAMES_MAX:
        rare_count -= 1  # The last one is the commonest word: it is only looked for in what the others found.
    for number in range(hits_count):
        hit = hits[number]
        names = <const int32_t *> PyBytes_AS_STRING(hit)
        names_in = PyBytes_GET_SIZE(hit) // <Py_ssize_t> sizeof(int32_t)
        for i in range(names_in):
            mark = &_marks[names[i]]
            if number == rare_count:
                mark.is_common = mark.found_by > 0
            elif mark.last != number + 1:
                if not mark.found_by:
                    found[touched] = names[i]
                    touched += 1
                mark.found_by += 1
                mark.last = <unsigned char> (number + 1)
                mark.is_rare |= names_in <= RARE_NAMES_MAX
    for i in range(touched):
        mark = &_marks[found[i]]
        count = mark.found_by + mark.is_common
        if size == 1 or ((count > 1 or mark.is_rare) and count >= min(size, <int> size_of[found[i]]) - 1):
            # In order of this number: more words in common first, then a more similar length, then the place in the list.
            ranked[kept] = (<int64_t> (HITS_MAX - mark.found_by) << 48) | (
                <int64_t> abs(<int> size_of[found[i]] - size) << 32
            ) | found[i]
            kept += 1
        mark.found_by = mark.last = mark.is_rare = mark.is_common = 0
    PyMem_Free(found)
    several = [ranked[i] for i in range(kept)]
    PyMem_Free(ranked)
    if kept > COMPARED_MAX:
        several.sort()
        del several[COMPARED_MAX:]
    return [place & 0xFFFFFFFF for place in several]


# -- the mistakes between two words -----------------------------------------------------------------------------------

cdef class Word:
    """A word with what it is compared by."""
    cdef str text, sound, consonants
    cdef object families
    cdef double weight
    cdef Py_ssize_t size
    cdef bint is_bare, is_long, is_alpha


cdef dict _known = {}


cdef Word known(str text):
    cdef Word word = _known.get(text)
    if word is None:
        word = Word()
        word.text, word.size = text, PyUnicode_GET_LENGTH(text)
        word.sound, consonants, word.families = _heard(text)
        word.is_bare = bool(consonants)
        word.consonants = consonants or _consonants(word.sound)
        word.weight, word.is_alpha = _weight_of(text), text.isalpha()
        word.is_long = word.size > CHARS_MAX or PyUnicode_GET_LENGTH(word.sound) > CHARS_MAX
        if len(_known) >= KNOWN_MAX:
            _known.clear()
        _known[text] = word
    return word


cdef double mistakes(Word our, Word their, int enough) except -1:
    """:func:`pipeline.stages.spelling.mistakes`."""
    cdef int heard, written
    cdef double cost = MISTAKES_MAX + 1, heard_cost
    cdef Py_ssize_t left_size, right_size
    if our.text == their.text:
        return 0
    heard = apart(our.sound, their.sound, MISTAKES_MAX)
    if heard <= MISTAKES_MAX:
        written = apart(our.text, their.text, enough if heard >= enough else CHARS_MAX)
        if heard < enough or written < enough:
            heard_cost = heard + SAME_SOUND_COST * (written - heard if written - heard > 1 else 1)
            cost = written if written < heard_cost else heard_cost
    if cost > FAMILY_COST and our.families and not our.families.isdisjoint(their.families):
        cost = FAMILY_COST
    if cost > VOWELS_COST and our.is_bare != their.is_bare:
        left_size, right_size = PyUnicode_GET_LENGTH(our.consonants), PyUnicode_GET_LENGTH(their.consonants)
        if _are_consonants_alike(our.consonants, their.consonants):
            cost = min(cost, VOWELS_COST * (1 if left_size >= CONSONANTS_MIN else 2))
        elif left_size >= CONSONANTS_MIN and right_size >= CONSONANTS_MIN:
            cost = min(cost, VOWELS_COST + CONSONANT_COST * apart(our.consonants, their.consonants, CHARS_MAX))
    return cost


cdef bint _are_consonants_alike(str left, str right) except -1:
    if left == right:
        return True
    breath = left.replace("h", "")
    return len(breath) >= CONSONANTS_MIN and breath == right.replace("h", "")


cdef double cost_of(double wrong, int chars) noexcept:
    """What ``wrong`` letters cost in a word of ``chars``. Products only: no machine rounds them otherwise than Python does."""
    return MISTAKE_COST * pow(wrong, GROWTH) * pow(USUAL_CHARS / chars, SHORT_POWER)


cdef int _enough[SYLLABLES_MAX + 1][SYLLABLES_MAX * CHARS_MAX + 1]


cdef int enough_of(int chars, int letters) noexcept:
    """How many whole mistakes make two words of ``chars`` different words."""
    cdef int wrong = _enough[letters][chars]
    if not wrong:
        wrong = 1
        while wrong * letters < DIFFERENT_SHARE * chars and cost_of(wrong * letters, chars) < CONFLICT_COST:
            wrong += 1
        _enough[letters][chars] = wrong
    return wrong


cdef double cost_of_pair(Word our, Word their, int letters, bint *is_initial) except -2:
    """What it costs to take two words for one; -1 when they are different words."""
    cdef int chars = <int> max(our.size, their.size)
    cdef double wrong, cost
    is_initial[0] = False
    if (our.size == 1 or their.size == 1) and letters != SYLLABLE_LETTERS:
        if our.text[0] == their.text[0] and our.is_alpha and their.is_alpha:
            is_initial[0] = True
            return INITIAL_COST
        return -1
    if letters == SYLLABLE_LETTERS:
        chars *= letters
    wrong = mistakes(our, their, enough_of(chars, letters)) * letters
    if wrong >= DIFFERENT_SHARE * chars:
        return -1
    cost = cost_of(wrong, chars)
    return cost if cost < CONFLICT_COST else -1


# -- the alignment of two names ---------------------------------------------------------------------------------------

def align(tuple left, tuple right, int letters, double lost_max):
    """:func:`pipeline.stages.alignment.align`."""
    cdef Word word, other
    cdef list ours, theirs, options, pairs = []
    cdef double weight, other_weight
    if len(left) > WORDS_MAX or len(right) > WORDS_MAX:
        return reference.align(left, right, letters, lost_max)
    ours, theirs = [known(text) for text in left], [known(text) for text in right]
    for word in ours + theirs:
        if word.is_long:
            return reference.align(left, right, letters, lost_max)
    for word in ours[:]:
        for at in range(len(theirs)):
            if (<Word> theirs[at]).text == word.text:
                del theirs[at]
                ours.remove(word)
                pairs.append((0.0, word.weight, "spelling_differs"))
                break
    if ours and theirs:
        options = []
        add_joins(options, ours, theirs, letters, False)
        add_joins(options, theirs, ours, letters, True)
        if not add_pairs(options, ours, theirs, letters, lost_max):
            return None
        options.sort()
        used_left, used_right = set(), set()
        for cost, _, left_at, right_at, reason in options:
            if used_left.isdisjoint(left_at) and used_right.isdisjoint(right_at):
                used_left.update(left_at)
                used_right.update(right_at)
                weight = other_weight = 0
                for i in left_at:
                    weight = max(weight, (<Word> ours[i]).weight)
                for i in right_at:
                    other_weight = max(other_weight, (<Word> theirs[i]).weight)
                pairs.append((cost, (weight + other_weight) / 2, reason))
        ours = [word for i, word in enumerate(ours) if i not in used_left]
        theirs = [word for i, word in enumerate(theirs) if i not in used_right]
    return pairs, [(<Word> each).text for each in ours], [(<Word> each).text for each in theirs]


cdef int add_joins(list options, list ours, list theirs, int letters, bint is_swapped) except -1:
    """Add the pairs of two neighbours of one name with one word of the other."""
    cdef Py_ssize_t i, j, chars
    cdef Word first, second, their
    cdef int wrong
    for i in range(len(ours) - 1):
        first, second = ours[i], ours[i + 1]
        chars = first.size + second.size
        for j in range(len(theirs)):
            their = theirs[j]
            if not -SPACE_MISTAKES_MAX <= chars - their.size <= SPACE_MISTAKES_MAX:
                continue
            wrong = apart(first.text + second.text, their.text, SPACE_MISTAKES_MAX)
            if wrong <= SPACE_MISTAKES_MAX:
                cost = cost_of(wrong * letters, <int> their.size)
                both, one = (i, i + 1), (j,)
                options.append((
                    cost, -max(chars, their.size), one if is_swapped else both, both if is_swapped else one, "spaces_differ"
                ))
    return 0


cdef bint add_pairs(list options, list ours, list theirs, int letters, double lost_max) except -1:
    """Add the pairs of one word with one; False when more than ``lost_max`` is lost whatever is chosen."""
    cdef list shorter = ours, longer = theirs
    cdef bint is_swapped = len(theirs) < len(ours), is_initial = False, is_alone, may_stop = not options
    cdef Py_ssize_t at, other_at
    cdef int alone = 0, alone_max = 0
    cdef double alone_weight = 0, cost
    cdef Word word, other
    if is_swapped:
        shorter, longer = theirs, ours
    if may_stop:
        alone_max = <int> (len(shorter) - len(longer))
        for other in longer:
            alone_max += other.weight < 1
    for at in range(len(shorter) - 1, -1, -1):  # Last names are the likelier to differ.
        word, is_alone = shorter[at], True
        for other_at in range(len(longer)):
            other = longer[other_at]
            cost = cost_of_pair(other, word, letters, &is_initial) if is_swapped else cost_of_pair(
                word, other, letters, &is_initial
            )
            if cost >= 0:
                is_alone = False
                options.append((
                    cost, -max(word.size, other.size), (other_at if is_swapped else at,), (at if is_swapped else other_at,),
                    "initial" if is_initial else "spelling_differs",
                ))
        if is_alone and may_stop:
            alone += 1
            alone_weight = max(alone_weight, word.weight)
            if alone > alone_max and CONFLICT_COST * alone_weight > lost_max:
                return False
    return True
