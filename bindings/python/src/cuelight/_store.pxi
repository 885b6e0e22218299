# The items of a Dict or a List, each a record of its own in a space; heap_layout.h says how they lie and why a killed writer does
# no harm. Callers bring their own lock. Without one, or in damaged memory, items may be wrong but no access leaves the space: each
# offset is compared with its size before use.

import copyreg
import numbers
import pickle

cdef uint64_t STRANGE = 0 # the hash of keys whose own hash is good in this process only
cdef uint64_t LENGTH = (<uint64_t>1 << 56) - 1
cdef uint64_t SECOND = <uint64_t>1 << 63
cdef object Number = numbers.Number
cdef object dumps = pickle.dumps, loads = pickle.loads
cdef int PROTOCOL = pickle.HIGHEST_PROTOCOL


# ---- values as bytes: a tag, and what it says ----

cdef bytes encoded(object value, object heap, char *tag):
    cdef int overflow = 0
    cdef long long whole
    cdef double real
    if type(value) is str:
        tag[0] = c"s"
        return (<str>value).encode("utf-8", "surrogatepass")
    if type(value) is int:
        whole = PyLong_AsLongLongAndOverflow(value, &overflow)
        if not overflow:
            tag[0] = c"i"
            return PyBytes_FromStringAndSize(<char *>&whole, 8)
    elif type(value) is float:
        tag[0] = c"f"
        real = value
        return PyBytes_FromStringAndSize(<char *>&real, 8)
    elif type(value) is bytes:
        tag[0] = c"b"
        return value
    elif value is None or value is True or value is False:
        tag[0] = c"n" if value is None else c"t" if value is True else c"F"
        return b""
    tag[0] = c"p"
    before = heap_in_use()
    context.heap = heap # which a box of the same heap is then pickled by
    try:
        return dumps(value, PROTOCOL)
    finally:
        context.heap = before


cdef object decoded(char tag, const char *at, Py_ssize_t size, object heap):
    cdef long long whole
    cdef double real
    if tag == c"s":
        return PyUnicode_DecodeUTF8(at, size, "surrogatepass")
    if tag == c"i" and size == 8:
        memcpy(&whole, at, 8)
        return whole
    if tag == c"f" and size == 8:
        memcpy(&real, at, 8)
        return real
    if tag == c"b":
        return PyBytes_FromStringAndSize(at, size)
    if tag == c"n":
        return None
    if tag == c"t":
        return True
    if tag == c"F":
        return False
    if tag != c"p":
        refuse_value(f"damaged container: a value with tag {tag}")
    copy = PyBytes_FromStringAndSize(at, size) # loading may run code that moves the items
    before = heap_in_use()
    context.heap = heap
    try:
        return loads(copy)
    finally:
        context.heap = before


# ---- hashes that every process computes alike ----

cdef bint stable_hash(object key, uint64_t *out) except -1:
    """1 and the hash, or 0 for a key of another kind. Equal keys of the kinds here have equal hashes. TypeError if unhashable."""
    cdef hashfunc how = Py_TYPE(key).tp_hash
    cdef const char *chars
    cdef Py_ssize_t size
    cdef uint64_t sum, part
    cdef bint stable = True
    if how == PyUnicode_Type.tp_hash:
        try:
            chars = PyUnicode_AsUTF8AndSize(key, &size)
            sum = mix_bytes(chars, size, 1)
        except UnicodeEncodeError:
            raw = (<str>key).encode("utf-8", "surrogatepass")
            sum = mix_bytes(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), 1)
    elif how == PyLong_Type.tp_hash or how == PyFloat_Type.tp_hash or how == PyComplex_Type.tp_hash:
        sum = mix(<uint64_t>hash(key)) if key == key else 3 # a NaN's own hash is an address
    elif how == PyBytes_Type.tp_hash:
        sum = mix_bytes(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), 2)
    elif key is None or key is Ellipsis:
        sum = 5 if key is None else 6
    elif how == PyTuple_Type.tp_hash:
        sum = mix(7 + <uint64_t>len(<tuple>key))
        for item in <tuple>key:
            stable &= stable_hash(item, &part)
            sum = mix(sum ^ part) + 11
    elif how == PyFrozenSet_Type.tp_hash:
        sum = 13 + <uint64_t>len(key)
        for item in key:
            stable &= stable_hash(item, &part)
            sum += mix(part)
        sum = mix(sum)
    elif isinstance(key, Number):
        sum = mix(<uint64_t>hash(key)) if key == key else 3
    else:
        hash(key)
        stable = False
    out[0] = sum + (sum == STRANGE) if stable else STRANGE
    return stable


@cython.final
cdef class Store:
    """The items of a container whose Struct `words` is: `_start`, `_size`, `_len`."""
    cdef Arena heap
    cdef object mem      # keeps `words`
    cdef uint64_t *words
    cdef uint64_t magic
    cdef uint64_t start  # the space that `at` shows
    cdef char *at
    cdef uint64_t size
    cdef uint64_t entries # as they were when they were found to fit into the size
    cdef uint64_t slots
    cdef Region region

    def __init__(self, heap, mem, bint ordered):
        cdef const unsigned char[::1] view = mem
        if not isinstance(heap, Arena):
            raise TypeError(f"heap is a {type(heap).__name__}, not a Heap")
        if view.shape[0] < 24:
            refuse_value(f"shared memory ({view.shape[0]} bytes) too small; must be at least 24 bytes")
        self.heap, self.mem, self.words = heap, mem, <uint64_t *>&view[0]
        self.magic = SPACE_LIST if ordered else SPACE_DICT

    # -- the space --

    cdef space_header *head(self) noexcept:
        return <space_header *>self.at

    cdef uint64_t fixed(self, uint64_t entries, uint64_t slots) noexcept:
        """Bytes before the records."""
        return sizeof(space_header) + (16 * entries if self.magic == SPACE_LIST else 24 * entries + 4 * slots)

    cdef int damaged(self) except -1:
        raise ValueError("damaged container: its memory makes no sense (was it written to without a lock?)")

    cdef bint open(self) except -1:
        """Looks at the current space. 0: the container is unset."""
        cdef uint64_t start = load(&self.words[0])
        cdef space_header *head
        if start == 0:
            self.at = NULL
            self.start = 0
            return 0
        if start != self.start:
            self.look(start)
        head = self.head()
        if head.entries != self.entries or head.slots != self.slots: # the same memory, used again
            self.look(start)
        if head.intent != 0:
            self.finish_removal()
        return 1

    cdef int look(self, uint64_t start) except -1:
        cdef Region region
        cdef space_header *head
        self.start = 0
        if start & 7:
            self.damaged()
        region = self.heap.mapped(start, sizeof(space_header))
        head = <space_header *>(region.base + start)
        cdef uint64_t size = head.size, entries = head.entries, slots = head.slots
        if head.magic != self.magic or size > MOST or entries > size or slots > size:
            self.damaged()
        if self.fixed(entries, slots) > size or (self.magic == SPACE_DICT and not power_of_two(slots)):
            self.damaged()
        self.region = self.heap.mapped(start, size)
        self.at = self.region.base + start
        self.size, self.entries, self.slots = size, entries, slots
        self.start = start
        return 0

    cdef const char *record(self, uint64_t offset, char *tag, Py_ssize_t *size) except NULL:
        cdef uint64_t word
        if offset > self.size - 8 or offset < sizeof(space_header):
            self.damaged()
        memcpy(&word, self.at + offset, 8)
        tag[0] = <char>(word >> 56)
        size[0] = word & LENGTH
        if (word & LENGTH) > self.size - 8 - offset:
            self.damaged()
        return self.at + offset + 8

    cdef object value(self, uint64_t offset):
        cdef char tag
        cdef Py_ssize_t size
        cdef const char *at = self.record(offset, &tag, &size)
        return decoded(tag, at, size, self.heap)

    cdef uint64_t write(self, char tag, bytes data) except 0:
        """Appends a record; there is room. Nobody knows of it yet."""
        cdef space_header *head = self.head()
        cdef uint64_t offset = head.top, length = PyBytes_GET_SIZE(data), word
        if offset > self.size or length + 8 > self.size - offset:
            self.damaged()
        head.top = offset + record_bytes(length)
        word = <uint64_t>tag << 56 | length
        memcpy(self.at + offset, &word, 8)
        memcpy(self.at + offset + 8, PyBytes_AS_STRING(data), length)
        return offset

    cdef int room(self, uint64_t items, uint64_t bytes_) except -1:
        """Space for so many more entries and bytes of records; may move everything."""
        cdef space_header *head = self.head()
        cdef uint64_t used
        if self.at != NULL:
            used = self.used()
            if (head.top <= self.size and bytes_ <= self.size - head.top and used + items <= self.entries
                    and (self.magic == SPACE_LIST or 4 * (head.filled + items) <= 3 * self.slots)):
                return 0
        return self.rebuild(items, bytes_, False)

    cdef uint64_t used(self) except? 7:
        """Entries in use."""
        cdef uint64_t counts = load(&self.head().counts)
        cdef uint64_t n = counts & 0xffffffff
        if n > self.entries:
            self.damaged()
        return n

    cdef uint64_t length(self) except? 7:
        if not self.open():
            return 0
        return self.used() if self.magic == SPACE_LIST else load(&self.head().counts) >> 32

    cdef int rebuild(self, uint64_t items, uint64_t bytes_, bint empty) except -1:
        """Copies the live items to another space, where so many more have room, and makes it the current one."""
        cdef Store old = Store.__new__(Store), new = Store.__new__(Store)
        cdef uint64_t count = 0, records = 0, entries, slots = 0, size, start, n = 0, i, key
        cdef char tag
        cdef Py_ssize_t length
        cdef space_header *head
        cdef dict_entry *from_
        cdef dict_entry *to
        old.magic = new.magic = self.magic
        old.heap = new.heap = self.heap
        old.start, old.at, old.size, old.region = self.start, self.at, self.size, self.region
        old.entries, old.slots = self.entries, self.slots
        if old.at != NULL and not empty:
            n = old.used()
            for i in range(n):
                if self.magic == SPACE_LIST:
                    old.record(old.refs()[i], &tag, &length)
                    records += record_bytes(length)
                else:
                    if old.items()[i].key == 0:
                        continue
                    old.record(old.items()[i].key, &tag, &length)
                    records += record_bytes(length)
                    old.record(old.items()[i].value, &tag, &length)
                    records += record_bytes(length)
                count += 1
        entries = max(8, 2 * (count + items))
        if entries > 1 << 30:
            raise MemoryError("a container of more than 2^29 items")
        if self.magic == SPACE_DICT:
            slots = 16
            while slots < 2 * entries:
                slots *= 2
        size = self.fixed(entries, slots) + records + bytes_ + max(records, bytes_) + 128
        size = align_to(size, 8)
        start = self.another(old, &size)

        new.start, new.size, new.entries, new.slots = start, size, entries, slots
        new.region = self.heap.mapped(start, size)
        new.at = new.region.base + start
        head = new.head()
        memset(new.at, 0, self.fixed(entries, slots))
        head.magic, head.size, head.entries, head.slots = self.magic, size, entries, slots
        head.top = align_to(self.fixed(entries, slots), 8)
        if old.at != NULL:
            head.other, head.other_size = old.start, old.size
            if self.magic == SPACE_DICT and not empty:
                head.strange = old.head().strange
        count = 0
        for i in range(n):
            if self.magic == SPACE_LIST:
                new.refs()[count] = new.copy(old, old.refs()[i])
            else:
                from_, to = &old.items()[i], &new.items()[count]
                if from_.key == 0:
                    continue
                to.hash = from_.hash
                to.key = new.copy(old, from_.key)
                to.value = new.copy(old, from_.value)
                new.link(to.hash, count)
            count += 1
        head.counts = count if self.magic == SPACE_LIST else count | count << 32
        store(&self.words[0], start) # the commit
        store(&self.words[1], size)
        store(&self.words[2], count)
        self.start, self.at, self.size, self.region = new.start, new.at, new.size, new.region
        self.entries, self.slots = new.entries, new.slots
        return 0

    cdef uint64_t another(self, Store old, uint64_t *size) except 0:
        """A space of at least `size` bytes: the one before this, or fresh memory.

        What is fresh is twice as large as the one whose turn it was, which nobody will use any more: so all that a container ever
        took is a few times what it needs, however slowly it grew.
        """
        cdef uint64_t start
        if old.at != NULL and old.head().other != 0 and old.head().other_size >= size[0]:
            start = old.head().other
            if start & 7 or start == old.start:
                self.damaged()
            self.heap.mapped(start, old.head().other_size)
            size[0] = old.head().other_size
            return start
        if old.at != NULL and old.head().other_size < MOST:
            size[0] = max(size[0], align_to(2 * old.head().other_size, 8))
        start = self.heap.take(size, 64)
        if old.at != NULL: # whoever is killed before the commit leaves it to the next
            store(&old.head().other, start)
            store(&old.head().other_size, size[0])
        return start

    cdef uint64_t copy(self, Store old, uint64_t offset) except 0:
        cdef char tag
        cdef Py_ssize_t size
        cdef const char *at = old.record(offset, &tag, &size)
        cdef uint64_t here = self.head().top
        if here > self.size or <uint64_t>size + 8 > self.size - here:
            self.damaged()
        memcpy(self.at + here, at - 8, size + 8)
        self.head().top = here + record_bytes(size)
        return here

    def clear(self):
        if self.open():
            self.rebuild(0, 0, True)

    def __len__(self):
        return self.length()

    # -- a dict --

    cdef dict_entry *items(self) noexcept:
        return <dict_entry *>(self.at + sizeof(space_header) + align_to(4 * self.slots, 8))

    cdef uint32_t *index(self) noexcept:
        return <uint32_t *>(self.at + sizeof(space_header))

    cdef int link(self, uint64_t hash_, uint64_t entry) except -1:
        """Puts an entry into the index: into the first slot on its way that is free or of an entry that is no more."""
        cdef space_header *head = self.head()
        cdef uint64_t mask = self.slots - 1, i = hash_ & mask, tried, n = head.counts & 0xffffffff
        for tried in range(self.slots):
            if self.index()[i] == 0 or self.index()[i] > max(n, entry):
                if self.index()[i] == 0:
                    head.filled += 1
                self.index()[i] = <uint32_t>(entry + 1)
                return 0
            i = (i + 1) & mask
        self.damaged()

    cdef bint same(self, object key, uint64_t offset) except -1:
        cdef char tag
        cdef Py_ssize_t size, mine
        cdef const char *at = self.record(offset, &tag, &size)
        cdef const char *chars
        cdef long long whole
        cdef int overflow = 0
        if type(key) is str and tag == c"s":
            if (<str>key).isascii():
                chars = PyUnicode_AsUTF8AndSize(key, &mine)
                return mine == size and memcmp(chars, at, size) == 0
        elif type(key) is int and tag == c"i" and size == 8:
            memcpy(&whole, at, 8)
            mine = PyLong_AsLongLongAndOverflow(key, &overflow)
            return not overflow and mine == whole
        return PyObject_RichCompareBool(decoded(tag, at, size, self.heap), key, Py_EQ)

    cdef int64_t probe(self, object key, uint64_t hash_) except -2:
        """The entry with this key among those with this hash, or -1."""
        cdef uint64_t start = self.start, i, mask = self.slots - 1, tried = 0, entry
        cdef dict_entry *one
        i = hash_ & mask
        while tried <= mask and self.index()[i] != 0:
            entry = self.index()[i] - 1
            if entry < self.used():
                one = &self.items()[entry]
                if one.key != 0 and one.hash == hash_ and self.same(key, one.key):
                    return entry
                if self.start != start: # comparing ran code that moved the items
                    return self.find(key, hash_)
            i = (i + 1) & mask
            tried += 1
        return -1

    cdef int64_t find(self, object key, uint64_t hash_) except -2:
        """The entry with this key, or -1."""
        cdef int64_t entry
        cdef uint64_t i
        if not self.open():
            return -1
        entry = self.probe(key, hash_)
        if entry < 0 and hash_ != STRANGE and self.head().strange != 0:
            entry = self.probe(key, STRANGE)
        elif entry < 0 and hash_ == STRANGE and Py_TYPE(key).tp_richcompare != PyBaseObject_Type.tp_richcompare:
            i = 0
            while i < self.used(): # it may be equal to anything
                if self.items()[i].key != 0 and self.items()[i].hash != STRANGE and self.same(key, self.items()[i].key):
                    return i
                i += 1
        return entry

    cdef int64_t find_key(self, object key) except -2:
        cdef uint64_t hash_
        stable_hash(key, &hash_)
        return self.find(key, hash_)

    cdef int count(self) except -1:
        store(&self.words[2], self.length())
        return 0

    def get(self, key, default):
        cdef int64_t entry = self.find_key(key)
        return default if entry < 0 else self.value(self.items()[entry].value)

    def contains(self, key):
        return self.find_key(key) >= 0

    cdef object place(self, object key, uint64_t hash_, char tag, bytes data):
        """Sets the value of a key, new or not."""
        cdef uint64_t n, offset
        cdef char key_tag
        cdef int64_t entry
        cdef bytes key_data
        cdef dict_entry *one
        entry = self.find(key, hash_)
        if entry >= 0:
            self.room(0, record_bytes(len(data)))
            entry = self.find(key, hash_) # it may have moved
            if entry >= 0:
                offset = self.write(tag, data)
                store(&self.items()[entry].value, offset) # the commit
                return
        key_data = encoded(key, self.heap, &key_tag)
        self.open()
        self.room(1, record_bytes(len(data)) + record_bytes(len(key_data)))
        n = self.used()
        one = &self.items()[n]
        one.hash = hash_
        one.key = self.write(key_tag, key_data)
        one.value = self.write(tag, data)
        if hash_ == STRANGE:
            self.head().strange = 1
        self.link(hash_, n)
        store(&self.head().counts, load(&self.head().counts) + 1 + (<uint64_t>1 << 32)) # the commit
        self.count()

    def put(self, key, value):
        cdef uint64_t hash_
        cdef char tag
        cdef bytes data
        stable_hash(key, &hash_)
        data = encoded(value, self.heap, &tag)
        self.place(key, hash_, tag, data)

    def put_all(self, dict items):
        """Sets them one by one, after all that may go wrong: what cannot be pickled, and no room."""
        cdef list ready = []
        cdef uint64_t bytes_ = 0, hash_
        cdef char tag, key_tag
        cdef bytes data
        for key, value in items.items():
            stable_hash(key, &hash_)
            data = encoded(value, self.heap, &tag)
            bytes_ += record_bytes(len(data)) + record_bytes(len(encoded(key, self.heap, &key_tag)))
            ready.append((key, hash_, tag, data))
        if ready:
            self.open()
            self.room(len(ready), bytes_)
        for key, hash_, tag, data in ready:
            self.place(key, hash_, tag, data)

    cdef int remove(self, uint64_t entry) except -1:
        cdef uint64_t counts = load(&self.head().counts)
        if entry + 1 == counts & 0xffffffff:
            store(&self.head().counts, counts - 1 - (<uint64_t>1 << 32)) # the last: one word says all
        else:
            store(&self.head().intent, entry + 1) # the commit
            self.items()[entry].key = 0
            store(&self.head().counts, counts - (<uint64_t>1 << 32))
            store(&self.head().intent, 0)
        return self.count()

    cdef int finish_removal(self) except -1:
        """Somebody was killed between the two words of a removal."""
        cdef uint64_t n = self.used(), live = 0, i
        if self.magic != SPACE_DICT or self.head().intent > n:
            self.damaged()
        self.items()[self.head().intent - 1].key = 0
        for i in range(n):
            live += self.items()[i].key != 0
        store(&self.head().counts, n | live << 32)
        store(&self.head().intent, 0)
        return 0

    def delete(self, key):
        """True if there was such a key."""
        cdef int64_t entry = self.find_key(key)
        if entry < 0:
            return False
        self.remove(entry)
        return True

    def take_last(self):
        """The last item, removed; None without any."""
        cdef int64_t entry
        if not self.open() or self.length() == 0:
            return None
        entry = <int64_t>self.used() - 1
        while entry >= 0 and self.items()[entry].key == 0:
            entry -= 1
        if entry < 0:
            self.damaged()
        pair = self.value(self.items()[entry].key), self.value(self.items()[entry].value)
        store(&self.head().counts, <uint64_t>entry | ((load(&self.head().counts) >> 32) - 1) << 32) # what follows is removed already
        self.count()
        return pair

    def keys(self):
        cdef list found = []
        cdef uint64_t i = 0, start
        if self.open():
            start = self.start
            while start == self.start and i < self.used():
                if self.items()[i].key != 0:
                    found.append(self.value(self.items()[i].key))
                i += 1
        return found

    def snapshot(self):
        """All of it, as a dict or as a list."""
        cdef uint64_t i = 0, start
        cdef object found = [] if self.magic == SPACE_LIST else {}
        if self.open():
            start = self.start
            while start == self.start and i < self.used():
                if self.magic == SPACE_LIST:
                    (<list>found).append(self.value(self.refs()[i]))
                elif self.items()[i].key != 0:
                    (<dict>found)[self.value(self.items()[i].key)] = self.value(self.items()[i].value)
                i += 1
        return found

    # -- a list --

    cdef uint64_t *refs(self) noexcept:
        """The array of entries that is in use."""
        return self.array(load(&self.head().counts) & SECOND != 0)

    cdef uint64_t *array(self, bint second) noexcept:
        return <uint64_t *>(self.at + sizeof(space_header)) + (self.entries if second else 0)

    def item(self, Py_ssize_t i):
        """IndexError beyond the ends; negative counts from the end."""
        cdef Py_ssize_t n = self.length()
        if i < 0:
            i += n
        if i < 0 or i >= n:
            raise IndexError("list index out of range")
        return self.value(self.refs()[i])

    def set_item(self, Py_ssize_t i, value):
        cdef char tag
        cdef bytes data = encoded(value, self.heap, &tag)
        cdef Py_ssize_t n = self.length()
        if i < 0:
            i += n
        if i < 0 or i >= n:
            raise IndexError("list assignment index out of range")
        self.room(0, record_bytes(len(data)))
        cdef uint64_t offset = self.write(tag, data)
        store(&self.refs()[i], offset) # the commit

    def append(self, value):
        cdef char tag
        cdef bytes data = encoded(value, self.heap, &tag)
        self.open()
        self.room(1, record_bytes(len(data)))
        self.refs()[self.used()] = self.write(tag, data)
        store(&self.head().counts, load(&self.head().counts) + 1) # the commit
        self.count()

    def splice(self, Py_ssize_t low, Py_ssize_t high, values):
        """Puts `values` in the place of items low to high, in one step. 0 <= low <= high."""
        cdef list records = []
        cdef uint64_t bytes_ = 0, n, end, more, flip
        cdef char tag
        cdef uint64_t *old
        cdef uint64_t *new
        for value in values:
            data = encoded(value, self.heap, &tag)
            records.append((tag, data))
            bytes_ += record_bytes(len(data))
        if not self.open() and not records:
            return
        more = len(records)
        self.room(more, bytes_)
        n = self.used()
        low, high = min(low, <Py_ssize_t>n), min(high, <Py_ssize_t>n)
        end = n - (high - low) + more
        if end > self.entries:
            self.damaged()
        flip = load(&self.head().counts) & SECOND
        if <uint64_t>low == n or (<uint64_t>high == n and more == 0): # at the end nothing moves
            new = old = self.refs()
        else:
            old, new = self.refs(), self.array(flip == 0)
            flip ^= SECOND
            memcpy(new, old, 8 * low)
            memcpy(new + low + more, old + high, 8 * (n - high))
        for i, (code, data) in enumerate(records):
            new[low + <Py_ssize_t>i] = self.write(code, data)
        store(&self.head().counts, end | flip) # the commit
        self.count()

    def arrange(self, order):
        """Makes the items those whose numbers `order` lists, in one step; nothing else is added."""
        cdef uint64_t n = self.length(), i = 0, from_, flip
        cdef uint64_t *old
        cdef uint64_t *new
        if not self.open():
            return
        if <uint64_t>len(order) > n:
            refuse_value("more items than there were")
        flip = load(&self.head().counts) & SECOND
        old, new = self.refs(), self.array(flip == 0)
        for number in order:
            from_ = number
            if from_ >= n:
                raise IndexError("list index out of range")
            new[i] = old[from_]
            i += 1
        store(&self.head().counts, i | (flip ^ SECOND)) # the commit
        self.count()


cdef inline uint64_t record_bytes(uint64_t length) noexcept:
    return 8 + align_to(length, 8)
