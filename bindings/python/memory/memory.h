/* The C types that stand on a piece of memory: what `cuelight.primitives` and `cuelight.types` are made of.
 *
 * Each is a `buffer`: it holds an export of the memory it was given, so the memory can neither move nor go while the object lives,
 * and a pointer into it. T(mem) initialises the memory, T.__new__(T)._setstate(mem) attaches to what is there. An object that was
 * made by __new__ alone has no memory, and every method says so.
 */
#ifndef MEMORY_H
#define MEMORY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

typedef struct {
    PyObject_HEAD Py_buffer view; /* view.buf: the memory, NULL before it has any */
} buffer;

extern PyTypeObject buffer_type;

/* Holds at least `size` bytes of `mem`; `align` 0: any address. -1 with an exception; then the object keeps what it had. */
int buffer_attach(buffer *self, PyObject *mem, Py_ssize_t size, uintptr_t align);

/* The memory, or NULL with a ValueError. */
static inline void *buffer_memory(PyObject *self)
{
    void *memory = ((buffer *)self)->view.buf;
    if (!memory)
        PyErr_Format(PyExc_ValueError, "%s has no memory yet: call it with some, or _setstate()", Py_TYPE(self)->tp_name);
    return memory;
}

/* The only positional argument; keywords are for the callers of other types (`heap=`) and are ignored. */
PyObject *buffer_argument(PyTypeObject *type, PyObject *args);

/* (mem, heap=None) of _setstate() and of the values: mem. */
PyObject *buffer_mem_and_heap(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *names);

/* Arguments by position or by name, as `names` (NULL-terminated) lists them; the first `required` must be there. What is not
 * given stays as it is in `values`. */
int arguments(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *keywords, const char *const *names, int required,
              PyObject **values);

/* Class attributes `size` and `align`, on a type that is ready. */
int set_geometry(PyTypeObject *type, Py_ssize_t size, Py_ssize_t align);
int set_attribute(PyTypeObject *type, const char *name, PyObject *value); /* takes the reference */

/* Adds the file's types to the module. */
int add_atomics(PyObject *module);
int add_lock(PyObject *module);
int add_values(PyObject *module);

#define METHOD(name, function, text)                                                                                                       \
    {                                                                                                                                      \
        name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, text                                                   \
    }
#define SETSTATE_TEXT "_setstate($self, mem, heap=None)\n--\n\nAttach to memory that holds such an object already; nothing is initialised."

#endif
