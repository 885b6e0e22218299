/* The atomic numbers: one aligned word each, every operation sequentially consistent.
 *
 * An add is one atomic instruction (a compare-and-swap loop for the double) that wraps around; that it overflowed is told after
 * the fact by an exception. x86 does this at any address; elsewhere memory must be aligned. Where the architecture has no lock-free
 * form of a type, it is None in the module and cuelight.atomic has one with a lock.
 */
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>

#if defined __x86_64__ || defined __i386__
#define NEEDED(type) 0
#else
#define NEEDED(type) _Alignof(type)
#endif

static const char *const add_names[] = { "amount", "raise_on_overflow", NULL };
static const char *const set_names[] = { "value", NULL };

/* amount and raise_on_overflow of add() */
static inline int add_arguments(PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **amount, int *raise)
{
    *raise = 1;
    if (count == 1 && !names) {
        *amount = args[0];
        return 0;
    }
    PyObject *values[2] = { NULL, NULL };
    if (arguments("add", args, count, names, add_names, 1, values) < 0)
        return -1;
    *amount = values[0];
    if (values[1])
        *raise = PyObject_IsTrue(values[1]);
    return *raise < 0 ? -1 : 0;
}

static inline PyObject *set_argument(PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count == 1 && !names)
        return args[0];
    PyObject *value = NULL;
    return arguments("set", args, count, names, set_names, 1, &value) < 0 ? NULL : value;
}

static int out_of_range(PyObject *number, const char *type)
{
    PyErr_Format(PyExc_OverflowError, "%S out of range of %s", number, type);
    return -1;
}

/* A whole number of C; a float is none. */
static int signed_of(PyObject *number, int64_t min, int64_t max, const char *type, int64_t *value)
{
    int overflow = 0;
    long long found = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (found == -1 && PyErr_Occurred())
        return -1;
    if (overflow || found < min || found > max)
        return out_of_range(number, type);
    *value = found;
    return 0;
}

static int unsigned_of(PyObject *number, uint64_t max, const char *type, uint64_t *value)
{
    int overflow = 0;
    long long found = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (found == -1 && !overflow && PyErr_Occurred())
        return -1;
    *value = (uint64_t)found;
    if (overflow > 0) {
        PyObject *index = PyNumber_Index(number);
        *value = index ? PyLong_AsUnsignedLongLong(index) : (uint64_t)-1;
        Py_XDECREF(index);
        if (*value == (uint64_t)-1 && PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_OverflowError))
                return -1;
            PyErr_Clear();
            return out_of_range(number, type);
        }
    } else if (overflow < 0 || found < 0) {
        return out_of_range(number, type);
    }
    return *value > max ? out_of_range(number, type) : 0;
}

static inline int int32_of(PyObject *number, int32_t *value)
{
    int64_t wide;
    if (signed_of(number, INT32_MIN, INT32_MAX, "int32_t", &wide) < 0)
        return -1;
    *value = (int32_t)wide;
    return 0;
}
static inline int int64_of(PyObject *number, int64_t *value)
{
    return signed_of(number, INT64_MIN, INT64_MAX, "int64_t", value);
}
static inline int uint32_of(PyObject *number, uint32_t *value)
{
    uint64_t wide;
    if (unsigned_of(number, UINT32_MAX, "uint32_t", &wide) < 0)
        return -1;
    *value = (uint32_t)wide;
    return 0;
}
static inline int uint64_of(PyObject *number, uint64_t *value)
{
    return unsigned_of(number, UINT64_MAX, "uint64_t", value);
}
static inline int double_of(PyObject *number, double *value)
{
    *value = PyFloat_AsDouble(number);
    return *value == -1.0 && PyErr_Occurred() ? -1 : 0;
}

#define DOC_NEW(Name, what)                                                                                                                \
    PyDoc_STR(#Name "(mem, /, **ignored)\n--\n\nAn atomic " what " in 'mem', set to 0. Sequentially consistent.\n\n"                       \
                    "Parameters\n----------\nmem : writable bytes-like\n    At least `size` bytes, kept for the object's life.\n\n"        \
                    "Raises\n------\nTypeError\n    `mem` is not writable memory.\nValueError\n    It is shorter than `size`.")
#define DOC_GET PyDoc_STR("get($self)\n--\n\nThe current value.")
#define DOC_SET PyDoc_STR("set($self, value)\n--\n\nSet the value. OverflowError if it is out of range; then nothing has changed.")
#define DOC_ADD                                                                                                                            \
    PyDoc_STR(                                                                                                                             \
        "add($self, amount, raise_on_overflow=True)\n--\n\nAdd 'amount' and return the value before. An addition that overflows wraps "    \
        "around\nand then, if 'raise_on_overflow', raises OverflowError; an amount out of range changes nothing.")

/* get, set, attaching and the type itself; add() is written apart */
#define ATOMIC(Name, ctype, what, convert, to_python)                                                                                      \
    static PyObject *Name##_get(PyObject *self, PyObject *none)                                                                            \
    {                                                                                                                                      \
        (void)none;                                                                                                                        \
        _Atomic ctype *word = buffer_memory(self);                                                                                         \
        return word ? to_python(atomic_load(word)) : NULL;                                                                                 \
    }                                                                                                                                      \
    static PyObject *Name##_set(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)                                  \
    {                                                                                                                                      \
        _Atomic ctype *word = buffer_memory(self);                                                                                         \
        PyObject *number = word ? set_argument(args, count, names) : NULL;                                                                 \
        ctype value;                                                                                                                       \
        if (!number || convert(number, &value) < 0)                                                                                        \
            return NULL;                                                                                                                   \
        atomic_store(word, value);                                                                                                         \
        Py_RETURN_NONE;                                                                                                                    \
    }                                                                                                                                      \
    static PyObject *Name##_repr(PyObject *self)                                                                                           \
    {                                                                                                                                      \
        _Atomic ctype *word = ((buffer *)self)->view.buf;                                                                                  \
        PyObject *value = word ? to_python(atomic_load(word)) : Py_NewRef(Py_None);                                                        \
        PyObject *text = value ? PyUnicode_FromFormat("<%s: %R>", Py_TYPE(self)->tp_name, value) : NULL;                                   \
        Py_XDECREF(value);                                                                                                                 \
        return text;                                                                                                                       \
    }                                                                                                                                      \
    static int Name##_init(PyObject *self, PyObject *args, PyObject *ignored)                                                              \
    {                                                                                                                                      \
        (void)ignored;                                                                                                                     \
        PyObject *mem = buffer_argument(Py_TYPE(self), args);                                                                              \
        if (!mem || buffer_attach((buffer *)self, mem, sizeof(ctype), NEEDED(ctype)) < 0)                                                  \
            return -1;                                                                                                                     \
        atomic_store((_Atomic ctype *)((buffer *)self)->view.buf, 0);                                                                      \
        return 0;                                                                                                                          \
    }                                                                                                                                      \
    static PyObject *Name##_setstate(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)                             \
    {                                                                                                                                      \
        PyObject *mem = buffer_mem_and_heap("_setstate", args, count, names);                                                              \
        if (!mem || buffer_attach((buffer *)self, mem, sizeof(ctype), NEEDED(ctype)) < 0)                                                  \
            return NULL;                                                                                                                   \
        Py_RETURN_NONE;                                                                                                                    \
    }                                                                                                                                      \
    static PyMethodDef Name##_methods[] = {                                                                                                \
        { "get", Name##_get, METH_NOARGS, DOC_GET },                                                                                       \
        METHOD("set", Name##_set, DOC_SET),                                                                                                \
        METHOD("add", Name##_add, DOC_ADD),                                                                                                \
        METHOD("_setstate", Name##_setstate, SETSTATE_TEXT),                                                                               \
        { NULL, NULL, 0, NULL },                                                                                                           \
    };                                                                                                                                     \
    static PyTypeObject Name##_type = {                                                                                                    \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cuelight.primitives." #Name,                                                             \
        .tp_doc = DOC_NEW(Name, what),                                                                                                     \
        .tp_basicsize = sizeof(buffer),                                                                                                    \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,                                                                              \
        .tp_base = &buffer_type,                                                                                                           \
        .tp_init = Name##_init,                                                                                                            \
        .tp_repr = Name##_repr,                                                                                                            \
        .tp_methods = Name##_methods,                                                                                                      \
    };

/* add() of a whole number: one instruction, which wraps. */
#define ADD(Name, ctype, name, convert, to_python)                                                                                         \
    static PyObject *Name##_add(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)                                  \
    {                                                                                                                                      \
        _Atomic ctype *word = buffer_memory(self);                                                                                         \
        PyObject *number;                                                                                                                  \
        int raise;                                                                                                                         \
        ctype amount, after;                                                                                                               \
        if (!word || add_arguments(args, count, names, &number, &raise) < 0 || convert(number, &amount) < 0)                               \
            return NULL;                                                                                                                   \
        ctype before = atomic_fetch_add(word, amount);                                                                                     \
        PyObject *result = to_python(before);                                                                                              \
        if (raise && result && __builtin_add_overflow(before, amount, &after)) {                                                           \
            PyObject *added = to_python(amount);                                                                                           \
            if (added)                                                                                                                     \
                PyErr_Format(PyExc_OverflowError, "%S + %S too large to fit in " name, added, result);                                     \
            Py_XDECREF(added);                                                                                                             \
            Py_CLEAR(result);                                                                                                              \
        }                                                                                                                                  \
        return result;                                                                                                                     \
    }

static PyObject *AtomicDouble_add(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    _Atomic double *word = buffer_memory(self);
    PyObject *number;
    int raise;
    double amount;
    if (!word || add_arguments(args, count, names, &number, &raise) < 0 || double_of(number, &amount) < 0)
        return NULL;
    double before = atomic_load(word);
    while (!atomic_compare_exchange_weak(word, &before, before + amount))
        ;
    return PyFloat_FromDouble(before);
}

ADD(AtomicInt32, int32_t, "int32_t", int32_of, PyLong_FromLong)
ADD(AtomicUInt32, uint32_t, "uint32_t", uint32_of, PyLong_FromUnsignedLong)
ATOMIC(AtomicInt32, int32_t, "32-bit signed integer", int32_of, PyLong_FromLong)
ATOMIC(AtomicUInt32, uint32_t, "32-bit unsigned integer", uint32_of, PyLong_FromUnsignedLong)
ADD(AtomicInt64, int64_t, "int64_t", int64_of, PyLong_FromLongLong)
ADD(AtomicUInt64, uint64_t, "uint64_t", uint64_of, PyLong_FromUnsignedLongLong)
ATOMIC(AtomicInt64, int64_t, "64-bit signed integer", int64_of, PyLong_FromLongLong)
ATOMIC(AtomicUInt64, uint64_t, "64-bit unsigned integer", uint64_of, PyLong_FromUnsignedLongLong)
ATOMIC(AtomicDouble, double, "double", double_of, PyFloat_FromDouble)

static int add_atomic(PyObject *module, PyTypeObject *type, const char *name, bool lock_free, Py_ssize_t size, PyObject *min, PyObject *max)
{
    int failed;
    if (!lock_free) {
        failed = PyModule_AddObjectRef(module, name, Py_None);
    } else {
        failed = PyModule_AddType(module, type) < 0 || set_geometry(type, size, size) < 0;
        if (!failed && min)
            failed = set_attribute(type, "min", Py_NewRef(min)) < 0 || set_attribute(type, "max", Py_NewRef(max)) < 0;
    }
    Py_XDECREF(min);
    Py_XDECREF(max);
    return failed ? -1 : 0;
}

int add_atomics(PyObject *module)
{
    bool wide = ATOMIC_LLONG_LOCK_FREE == 2, narrow = ATOMIC_INT_LOCK_FREE == 2;
    if (add_atomic(module, &AtomicInt32_type, "AtomicInt32", narrow, 4, PyLong_FromLong(INT32_MIN), PyLong_FromLong(INT32_MAX)) < 0 ||
        add_atomic(module, &AtomicUInt32_type, "AtomicUInt32", narrow, 4, PyLong_FromLong(0), PyLong_FromUnsignedLong(UINT32_MAX)) < 0 ||
        add_atomic(module, &AtomicInt64_type, "AtomicInt64", wide, 8, PyLong_FromLongLong(INT64_MIN), PyLong_FromLongLong(INT64_MAX)) < 0 ||
        add_atomic(module, &AtomicUInt64_type, "AtomicUInt64", wide, 8, PyLong_FromLong(0), PyLong_FromUnsignedLongLong(UINT64_MAX)) < 0)
        return -1;
    return add_atomic(module, &AtomicDouble_type, "AtomicDouble", wide, 8, NULL, NULL);
}
