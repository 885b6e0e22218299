/* Double, Size_t, Int64, UInt64: a plain value in memory, not atomic.
 *
 * `value` follows the rules of ctypes: whole numbers wrap silently, a float is no whole number. What ctypes has beyond `value` is
 * had from a ctypes object on the same memory, made when it is asked for.
 */
#include "memory.h"

#include <stdint.h>
#include <string.h>

static PyObject *double_get(const void *memory)
{
    double value;
    memcpy(&value, memory, sizeof value);
    return PyFloat_FromDouble(value);
}

static int double_set(void *memory, PyObject *number)
{
    double value = PyFloat_AsDouble(number);
    if (value == -1.0 && PyErr_Occurred())
        return -1;
    memcpy(memory, &value, sizeof value);
    return 0;
}

static int whole_set(void *memory, PyObject *number)
{
    if (!PyLong_Check(number)) {
        PyErr_Format(PyExc_TypeError, "int expected instead of %s instance", Py_TYPE(number)->tp_name);
        return -1;
    }
    uint64_t value = PyLong_AsUnsignedLongLongMask(number);
    memcpy(memory, &value, sizeof value);
    return 0;
}

static PyObject *signed_get(const void *memory)
{
    int64_t value;
    memcpy(&value, memory, sizeof value);
    return PyLong_FromLongLong(value);
}

static PyObject *unsigned_get(const void *memory)
{
    uint64_t value;
    memcpy(&value, memory, sizeof value);
    return PyLong_FromUnsignedLongLong(value);
}

static int value_attach(PyObject *self, PyObject *mem)
{
    return buffer_attach((buffer *)self, mem, 8, 0);
}

static int value_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = { "mem", "heap", NULL };
    PyObject *mem, *heap;
    if (PyTuple_GET_SIZE(args) == 1 && keywords && PyDict_GET_SIZE(keywords) == 1 && PyDict_GetItemString(keywords, "heap"))
        mem = PyTuple_GET_ITEM(args, 0); /* as boxes call it */
    else if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O", names, &mem, &heap))
        return -1;
    if (value_attach(self, mem) < 0)
        return -1;
    memset(((buffer *)self)->view.buf, 0, 8);
    return 0;
}

/* T(mem, heap=heap) without a tuple and a dict: arrays make many of them. */
static PyObject *value_vectorcall(PyObject *type, PyObject *const *args, size_t flagged, PyObject *names)
{
    PyObject *mem = buffer_mem_and_heap(((PyTypeObject *)type)->tp_name, args, PyVectorcall_NARGS(flagged), names);
    PyObject *self = mem ? PyType_GenericAlloc((PyTypeObject *)type, 0) : NULL;
    if (self && value_attach(self, mem) < 0)
        Py_CLEAR(self);
    if (self)
        memset(((buffer *)self)->view.buf, 0, 8);
    return self;
}

static PyObject *value_setstate(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *mem = buffer_mem_and_heap("_setstate", args, count, names);
    if (!mem || value_attach(self, mem) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* What is no attribute here is looked up in a ctypes object on the same memory. */
static PyObject *from_ctypes(PyObject *self, PyObject *name, const char *ctype)
{
    if (PyUnicode_READ_CHAR(name, 0) == '_' && PyUnicode_GET_LENGTH(name) > 1 && PyUnicode_READ_CHAR(name, 1) == '_')
        return NULL;
    if (!((buffer *)self)->view.buf)
        return NULL;
    PyErr_Clear();
    PyObject *ctypes = PyImport_ImportModule("ctypes");
    PyObject *type = ctypes ? PyObject_GetAttrString(ctypes, ctype) : NULL;
    PyObject *mem = type ? PyObject_GetAttrString(self, "_mem") : NULL;
    PyObject *object = mem ? PyObject_CallMethod(type, "from_buffer", "O", mem) : NULL;
    PyObject *found = object ? PyObject_GetAttr(object, name) : NULL;
    Py_XDECREF(object);
    Py_XDECREF(mem);
    Py_XDECREF(type);
    Py_XDECREF(ctypes);
    return found;
}

static PyMethodDef value_methods[] = { METHOD("_setstate", value_setstate, SETSTATE_TEXT), { NULL, NULL, 0, NULL } };

#define VALUE(Name, ctype, what, get, set)                                                                                                 \
    static PyObject *Name##_get(PyObject *self, void *closure)                                                                             \
    {                                                                                                                                      \
        (void)closure;                                                                                                                     \
        void *memory = buffer_memory(self);                                                                                                \
        return memory ? get(memory) : NULL;                                                                                                \
    }                                                                                                                                      \
    static int Name##_set(PyObject *self, PyObject *number, void *closure)                                                                 \
    {                                                                                                                                      \
        (void)closure;                                                                                                                     \
        void *memory = buffer_memory(self);                                                                                                \
        if (memory && !number)                                                                                                             \
            PyErr_SetString(PyExc_TypeError, "can't delete attribute");                                                                    \
        return memory && number ? set(memory, number) : -1;                                                                                \
    }                                                                                                                                      \
    static PyObject *Name##_attribute(PyObject *self, PyObject *name)                                                                      \
    {                                                                                                                                      \
        PyObject *found = PyObject_GenericGetAttr(self, name);                                                                             \
        return found || !PyErr_ExceptionMatches(PyExc_AttributeError) ? found : from_ctypes(self, name, #ctype);                           \
    }                                                                                                                                      \
    static PyObject *Name##_repr(PyObject *self)                                                                                           \
    {                                                                                                                                      \
        void *memory = ((buffer *)self)->view.buf;                                                                                         \
        PyObject *value = memory ? get(memory) : Py_NewRef(Py_None);                                                                       \
        PyObject *text = value ? PyUnicode_FromFormat("<%s: %R>", Py_TYPE(self)->tp_name, value) : NULL;                                   \
        Py_XDECREF(value);                                                                                                                 \
        return text;                                                                                                                       \
    }                                                                                                                                      \
    static PyGetSetDef Name##_attributes[] = { { "value", Name##_get, Name##_set, PyDoc_STR("The value itself."), NULL },                  \
                                               { NULL, NULL, NULL, NULL, NULL } };                                                         \
    static PyTypeObject Name##_type = {                                                                                                    \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cuelight.types." #Name,                                                                  \
        .tp_doc = PyDoc_STR(                                                                                                               \
            #Name "(mem, heap=None)\n--\n\n" what " backed by (shared) memory, set to 0. Not atomic.\n\n"                                  \
                  "Parameters\n----------\nmem : writable bytes-like\n    At least 8 bytes, kept for the object's life.\n"                 \
                  "heap\n    Unused.\n\nAttributes\n----------\nvalue : int or float\n    The value itself, by the rules of ctypes."),     \
        .tp_basicsize = sizeof(buffer),                                                                                                    \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,                                                                              \
        .tp_base = &buffer_type,                                                                                                           \
        .tp_init = value_init,                                                                                                             \
        .tp_vectorcall = value_vectorcall,                                                                                                 \
        .tp_getattro = Name##_attribute,                                                                                                   \
        .tp_repr = Name##_repr,                                                                                                            \
        .tp_methods = value_methods,                                                                                                       \
        .tp_getset = Name##_attributes,                                                                                                    \
    };

VALUE(Double, c_double, "A double", double_get, double_set)
VALUE(Size_t, c_size_t, "A size_t", unsigned_get, whole_set)
VALUE(Int64, c_int64, "An int64_t", signed_get, whole_set)
VALUE(UInt64, c_uint64, "A uint64_t", unsigned_get, whole_set)

_Static_assert(sizeof(size_t) == 8 && sizeof(double) == 8, "all values here have 8 bytes");

/* members(cls, mem, stride, count, heap): [cls(mem[0:stride], heap=heap), ...], the loop that making an array is. */
static PyObject *members(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_ssize_t stride = count == 5 ? PyLong_AsSsize_t(args[2]) : -1, length = stride > 0 ? PyLong_AsSsize_t(args[3]) : -1;
    if (length < 0)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "members(cls, mem, stride, count, heap)");
    PyObject *list = PyList_New(length), *names = Py_BuildValue("(s)", "heap");
    for (Py_ssize_t i = 0; list && names && i < length; i++) {
        PyObject *from = PyLong_FromSsize_t(i * stride), *to = PyLong_FromSsize_t((i + 1) * stride);
        PyObject *range = from && to ? PySlice_New(from, to, NULL) : NULL;
        PyObject *part = range ? PyObject_GetItem(args[1], range) : NULL;
        PyObject *given[] = { NULL, part, args[4] };
        PyObject *member = part ? PyObject_Vectorcall(args[0], given + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names) : NULL;
        Py_XDECREF(from);
        Py_XDECREF(to);
        Py_XDECREF(range);
        Py_XDECREF(part);
        if (member)
            PyList_SET_ITEM(list, i, member);
        else
            Py_CLEAR(list);
    }
    Py_XDECREF(names);
    return list;
}

static PyMethodDef functions[] = { { "members", (PyCFunction)(void (*)(void))members, METH_FASTCALL, NULL }, { NULL, NULL, 0, NULL } };

int add_values(PyObject *module)
{
    PyTypeObject *types[] = { &Double_type, &Size_t_type, &Int64_type, &UInt64_type };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (PyModule_AddType(module, types[i]) < 0 || set_geometry(types[i], 8, 8) < 0)
            return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
