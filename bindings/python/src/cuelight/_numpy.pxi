# numpy, imported when the first array is asked for, and the tag by which an array's dtype and shape travel with its block.
#
# The bytes of a block made by Pool.put and Pool.empty are exactly the array's: a C program that finds it sees nothing else.
# The tag stands behind them, at the next multiple of 16 after the block's size, in room that was allocated for it
# (cue_block_info.capacity tells how far the block's room goes, cue_block_resize hid it):
#
#     0   8 bytes  "cuearray"
#     8   u64      the block's automatic id: a tag that an earlier block left in the same memory does not count
#    16   u32      number of dimensions     20  u32  bytes of the dtype's description
#    24   u32      1: Fortran order         28  u32  0
#    32   u64 …    the shape, then the dtype as numpy's format writes it: "<f8", or a list of fields
#
# all in native order (a pool is shared by one machine). Everybody who may write to the pool may forge it, so what it says
# is believed only where it describes exactly the bytes that the block has.

cdef extern from *:
    """
    struct cue_py_tag { char magic[8]; uint64_t id; uint32_t ndim, dtype_bytes, fortran, zero; };

    /* numpy's C interface, three of its functions, found at run time: the package is built without numpy and works without it.
     * The places in the table and the flags are numpy's promised ABI (numpy/__multiarray_api.h), the same in 1.x and 2.x. */
    static void **cue_py_numpy;
    enum { NUMPY_UPDATE_FLAGS = 92, NUMPY_NEW_FROM_DESCR = 94, NUMPY_SET_BASE_OBJECT = 282 };
    enum { NUMPY_C_ORDER = 0x0001, NUMPY_FORTRAN_ORDER = 0x0002, NUMPY_ALIGNED = 0x0100, NUMPY_WRITEABLE = 0x0400 };

    static int cue_py_numpy_load(PyObject *capsule)
    {
        cue_py_numpy = (void **)PyCapsule_GetPointer(capsule, NULL);
        return cue_py_numpy ? 0 : -1;
    }

    /* An array over `data`, which `base` keeps. */
    static PyObject *cue_py_array(PyObject *type, PyObject *dtype, int ndim, const Py_ssize_t *shape, void *data, int flags, PyObject *base)
    {
        typedef PyObject *new_from_descr(PyObject *, PyObject *, int, const Py_ssize_t *, const Py_ssize_t *, void *, int, PyObject *);
        typedef int set_base_object(PyObject *, PyObject *);
        typedef void update_flags(PyObject *, int);
        Py_INCREF(dtype); /* taken over, as is the base */
        PyObject *array = ((new_from_descr *)cue_py_numpy[NUMPY_NEW_FROM_DESCR])(type, dtype, ndim, shape, NULL, data, flags, NULL);
        if (!array)
            return NULL;
        ((update_flags *)cue_py_numpy[NUMPY_UPDATE_FLAGS])(array, NUMPY_C_ORDER | NUMPY_FORTRAN_ORDER | NUMPY_ALIGNED);
        Py_INCREF(base);
        if (((set_base_object *)cue_py_numpy[NUMPY_SET_BASE_OBJECT])(array, base) < 0)
            Py_CLEAR(array);
        return array;
    }
    """
    int NUMPY_C_ORDER, NUMPY_FORTRAN_ORDER, NUMPY_WRITEABLE
    int cue_py_numpy_load(object capsule) except -1
    object cue_py_array(object type, object dtype, int ndim, const Py_ssize_t *shape, void *data, int flags, object base)

    struct cue_py_tag:
        char magic[8]
        uint64_t id
        uint32_t ndim, dtype_bytes, fortran, zero

cdef enum:
    TAG_MOST = 4096  # bytes of a tag
    DIMS_MOST = 64

cdef object np = None
cdef object np_ndarray = None
cdef object np_dtype = None
cdef object np_uint8 = None
cdef dict dtypes_named = {} # "f8" -> np.dtype("f8")
cdef dict dtype_texts = {}  # dtype -> its description
cdef dict tag_cache = {}    # a tag's bytes after the id -> (dtype, shape, order, bytes of the array)


cdef int need_numpy() except -1:
    global np, np_ndarray, np_dtype, np_uint8
    if np is None:
        import numpy
        np_ndarray, np_dtype, np_uint8 = numpy.ndarray, numpy.dtype, numpy.dtype("u1")
        try:
            from numpy._core._multiarray_umath import _ARRAY_API
        except ImportError:  # numpy 1
            from numpy.core._multiarray_umath import _ARRAY_API
        cue_py_numpy_load(_ARRAY_API)
        np = numpy
    return 0


cdef object dtype_of(object dtype):
    need_numpy()
    if type(dtype) is str:
        known = dtypes_named.get(dtype)
        if known is None:
            known = checked_dtype(dtype)
            if len(dtypes_named) < 256:
                dtypes_named[dtype] = known
        return known
    return checked_dtype(dtype)


cdef object checked_dtype(object dtype):
    if not PyObject_TypeCheck(dtype, <PyTypeObject *>np_dtype):
        try:
            dtype = np_dtype(dtype)
        except TypeError as e:
            raise error(CUE_ETYPE, str(e)) from None
    if dtype.hasobject:
        refuse(CUE_ETYPE, f"dtype {dtype} holds Python objects, which live in one process")
    return dtype


cdef bytes dtype_text(object dtype):
    """What np.lib.format writes of it."""
    text = dtype_texts.get(dtype)
    if text is None:
        descr = np.lib.format.dtype_to_descr(dtype)
        text = (descr if isinstance(descr, str) else repr(descr)).encode()
        if dtype_from(text) != dtype or len(text) > TAG_MOST // 2:
            refuse(CUE_ETYPE, f"dtype {dtype} cannot be described to another process")
        if len(dtype_texts) >= 256:
            dtype_texts.clear()
        dtype_texts[dtype] = text
    return text


cdef object dtype_from(bytes text):
    source = text.decode()
    if source[:1] == "[":
        import ast
        dtype = np.lib.format.descr_to_dtype(ast.literal_eval(source))
    else:
        dtype = np.dtype(source)
    if dtype.hasobject:
        raise ValueError("holds objects")
    return dtype


cdef int make_read_only(object array) except -1:
    if array.flags.writeable:
        array.setflags(False)
    return 0


cdef inline size_t tag_offset(size_t size) noexcept nogil:
    return (size + 15) & ~<size_t>15


cdef size_t tag_room(size_t size, Py_ssize_t ndim, bytes dtype) except 0:
    """What a block of `size` bytes must have to hold a tag as well; the size itself if there can be none."""
    cdef size_t room = tag_offset(size) + sizeof(cue_py_tag) + 8 * ndim + len(dtype)
    return room if room > size else size


cdef bint tag_write(const cue_block *b, bytes dtype, tuple shape, bint fortran) except -1:
    """Describes the block's bytes behind them; false if it has no room for that."""
    cdef cue_block_info info
    cdef cue_py_tag tag
    cdef char *place
    cdef uint64_t extent
    cdef Py_ssize_t i
    check(cue_block_stat(b, &info))
    if tag_room(b.size, len(shape), dtype) > info.capacity or b.data == NULL:
        return False
    place = <char *>b.data + tag_offset(b.size)
    memcpy(tag.magic, b"cuearray", 8)
    tag.id = info.id
    tag.ndim = <uint32_t>len(shape)
    tag.dtype_bytes = <uint32_t>len(dtype)
    tag.fortran = fortran
    tag.zero = 0
    memcpy(place, &tag, sizeof(tag))
    place += sizeof(tag)
    for i in range(len(shape)):
        extent = shape[i]
        memcpy(place + 8 * i, &extent, 8)
    memcpy(place + 8 * len(shape), PyBytes_AS_STRING(dtype), len(dtype))
    return True


cdef tuple tag_read(const cue_block *b):
    """(dtype, shape, order, bytes) of an array that was put there, None if the block is plain bytes."""
    cdef cue_block_info info
    cdef cue_py_tag tag
    cdef const char *place
    cdef size_t offset = tag_offset(b.size), rest
    check(cue_block_stat(b, &info))
    if b.data == NULL or info.size != b.size or info.capacity < offset + sizeof(tag):
        return None
    place = <const char *>b.data + offset
    memcpy(&tag, place, sizeof(tag))
    rest = 8 * <size_t>tag.ndim + tag.dtype_bytes
    if (memcmp(tag.magic, b"cuearray", 8) or tag.id != info.id or tag.ndim > DIMS_MOST or rest > TAG_MOST
            or info.capacity - offset - sizeof(tag) < rest):
        return None
    cdef bytes key = PyBytes_FromStringAndSize(place + 16, 16 + rest)
    known = tag_cache.get(key)
    if known is None:
        known = tag_parse(key, tag.ndim, tag.fortran != 0)
        if len(tag_cache) >= 256:
            tag_cache.clear()
        tag_cache[key] = known
    if known[3] != b.size:
        refuse(CUE_ECORRUPT, f"block {info.id:#x} of {b.size} bytes says that it is an array of {known[3]}")
    return known


cdef tuple tag_parse(bytes key, uint32_t ndim, bint fortran):
    cdef uint64_t extent
    cdef uint32_t i
    need_numpy()
    shape = []
    for i in range(ndim):
        memcpy(&extent, PyBytes_AS_STRING(key) + 16 + 8 * i, 8)
        shape.append(extent)
    try:
        dtype = dtype_from(key[16 + 8 * ndim:])
    except Exception as e:
        raise error(CUE_ECORRUPT, f"the dtype of an array in a pool makes no sense: {e}") from None
    total = dtype.itemsize
    for n in shape:
        total *= n
    return dtype, tuple(shape), "F" if fortran else "C", total


cdef tuple shape_of(object shape):
    """A shape as a tuple; -1 stays."""
    if isinstance(shape, tuple):
        return shape
    try:
        return (PyNumber_Index(shape),)
    except TypeError:
        return tuple(shape)


cdef object array_over(object exporter, void *data, object dtype, tuple shape, bint fortran, bint writable):
    """An array over memory that `exporter` keeps; whether the array can be made writable later, numpy asks of its buffer."""
    cdef Py_ssize_t dims[DIMS_MOST]
    cdef Py_ssize_t i, ndim = len(shape)
    if ndim > DIMS_MOST:
        refuse(CUE_EINVAL, f"an array of {ndim} dimensions")
    for i in range(ndim):
        dims[i] = shape[i]
    return cue_py_array(np_ndarray, dtype, <int>ndim, dims, data,
                        (NUMPY_FORTRAN_ORDER if fortran else NUMPY_C_ORDER) | (NUMPY_WRITEABLE if writable else 0), exporter)


cdef tuple fit(size_t size, object dtype, object shape, object offset):
    """The shape of an array of the bytes from `offset` on; refused if they do not suffice."""
    cdef size_t start = whole(offset, "offset", UINT64_MAX)
    if start > size:
        refuse(CUE_EINVAL, f"offset {start} in a block of {size} bytes")
    cdef size_t itemsize = dtype.itemsize
    if shape is None and itemsize and (size - start) % itemsize == 0:
        return ((size - start) // itemsize,)
    shape = (-1,) if shape is None else shape_of(shape)
    if -1 in shape:
        others = itemsize
        for n in shape:
            others *= n if n != -1 else 1
        if others <= 0 or (size - start) % others or shape.count(-1) != 1:
            refuse(CUE_EINVAL, f"{size - start} bytes are not a whole number of {dtype} in the shape {shape}")
        shape = tuple([(size - start) // others if n == -1 else n for n in shape])
    total = itemsize
    for n in shape:
        if n < 0:
            refuse(CUE_EINVAL, f"the shape {shape}")
        total *= n
    if total > size - start:
        refuse(CUE_EINVAL, f"{dtype} in the shape {shape} at {start} takes {total} bytes, the block has {size}")
    return shape
