/* Buffer, the base of the types on memory, and how their arguments are read. */
#include "memory.h"

#include <string.h>

int buffer_attach(buffer *self, PyObject *mem, Py_ssize_t size, uintptr_t align)
{
    Py_buffer view;
    if (PyObject_GetBuffer(mem, &view, PyBUF_WRITABLE) < 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError))
            PyErr_Format(PyExc_TypeError, "shared memory must be a writable bytes-like object in one piece, not %s", Py_TYPE(mem)->tp_name);
        return -1;
    }
    if (view.len < size) {
        PyErr_Format(PyExc_ValueError, "shared memory (%zd bytes) too small; must be at least %zd bytes", view.len, size);
    } else if (align && (uintptr_t)view.buf % align) {
        PyErr_Format(PyExc_ValueError, "shared memory at an odd address; %s needs a multiple of %zu", Py_TYPE(self)->tp_name, align);
    } else {
        Py_buffer before = self->view;
        self->view = view;
        PyBuffer_Release(&before);
        return 0;
    }
    PyBuffer_Release(&view);
    return -1;
}

PyObject *buffer_argument(PyTypeObject *type, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) == 1)
        return PyTuple_GET_ITEM(args, 0);
    PyErr_Format(PyExc_TypeError, "%s() takes exactly one positional argument (%zd given)", type->tp_name, PyTuple_GET_SIZE(args));
    return NULL;
}

int arguments(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *keywords, const char *const *names, int required,
              PyObject **values)
{
    int known = 0;
    while (names[known])
        known++;
    if (count > known) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)", function, known, count);
        return -1;
    }
    unsigned given = 0;
    for (int i = 0; i < count; i++) {
        values[i] = args[i];
        given |= 1u << i;
    }
    for (Py_ssize_t k = 0; keywords && k < PyTuple_GET_SIZE(keywords); k++) {
        PyObject *name = PyTuple_GET_ITEM(keywords, k);
        int i = 0;
        while (i < known && PyUnicode_CompareWithASCIIString(name, names[i]))
            i++;
        if (i == known || given & 1u << i) {
            PyErr_Format(PyExc_TypeError,
                         i == known ? "%s() got an unexpected keyword argument '%U'" : "%s() got multiple values for argument '%U'",
                         function, name);
            return -1;
        }
        values[i] = args[count + k];
        given |= 1u << i;
    }
    for (int i = 0; i < required; i++) {
        if (!(given & 1u << i)) {
            PyErr_Format(PyExc_TypeError, "%s() misses its argument '%s'", function, names[i]);
            return -1;
        }
    }
    return 0;
}

PyObject *buffer_mem_and_heap(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const known[] = { "mem", "heap", NULL };
    PyObject *values[2] = { NULL, NULL };
    return arguments(function, args, count, names, known, 1, values) < 0 ? NULL : values[0];
}

int set_attribute(PyTypeObject *type, const char *name, PyObject *value)
{
    if (!value)
        return -1;
    int failed = PyDict_SetItemString(type->tp_dict, name, value);
    Py_DECREF(value);
    PyType_Modified(type);
    return failed;
}

int set_geometry(PyTypeObject *type, Py_ssize_t size, Py_ssize_t align)
{
    if (set_attribute(type, "size", PyLong_FromSsize_t(size)) < 0)
        return -1;
    return set_attribute(type, "align", PyLong_FromSsize_t(align));
}

static void buffer_dealloc(PyObject *self)
{
    PyBuffer_Release(&((buffer *)self)->view);
    Py_TYPE(self)->tp_free(self);
}

/* `size` is the class's: a subclass in Python may have one, Buffer itself has none. */
static int size_of(PyObject *self, Py_ssize_t *size)
{
    PyObject *attribute = PyObject_GetAttrString((PyObject *)Py_TYPE(self), "size");
    if (!attribute)
        return -1;
    *size = PyLong_AsSsize_t(attribute);
    Py_DECREF(attribute);
    return *size == -1 && PyErr_Occurred() ? -1 : 0;
}

static int buffer_init(PyObject *self, PyObject *args, PyObject *ignored)
{
    (void)ignored;
    PyObject *mem = buffer_argument(Py_TYPE(self), args);
    Py_ssize_t size;
    return mem && size_of(self, &size) == 0 ? buffer_attach((buffer *)self, mem, size, 0) : -1;
}

static PyObject *buffer_setstate(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *mem = buffer_mem_and_heap("_setstate", args, count, names);
    Py_ssize_t size;
    if (!mem || size_of(self, &size) < 0 || buffer_attach((buffer *)self, mem, size, 0) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *buffer_mem(PyObject *self, void *closure)
{
    (void)closure;
    if (!buffer_memory(self))
        return NULL;
    PyObject *owner = ((buffer *)self)->view.obj;
    return PyMemoryView_Check(owner) ? Py_NewRef(owner) : PyMemoryView_FromObject(owner);
}

static PyMethodDef buffer_methods[] = { METHOD("_setstate", buffer_setstate, SETSTATE_TEXT), { NULL, NULL, 0, NULL } };
static PyGetSetDef buffer_attributes[] = { { "_mem", buffer_mem, NULL, "The memory, as a memoryview.", NULL },
                                           { NULL, NULL, NULL, NULL, NULL } };

PyTypeObject buffer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cuelight.primitives.Buffer",
    .tp_doc = PyDoc_STR("Buffer(mem, /, **ignored)\n--\n\nAn object backed by 'mem'. The base of the other types of this module."),
    .tp_basicsize = sizeof(buffer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = buffer_init,
    .tp_dealloc = buffer_dealloc,
    .tp_methods = buffer_methods,
    .tp_getset = buffer_attributes,
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cuelight._memory",
    .m_doc = "Atomics, a lock and plain values in shared memory; see cuelight.primitives and cuelight.types.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__memory(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    if (PyModule_AddType(module, &buffer_type) < 0 || add_atomics(module) < 0 || add_lock(module) < 0 || add_values(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
