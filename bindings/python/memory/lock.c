/* Lock: a mutex between processes that tells errors and survives its holder.
 *
 * It is the C library's own mutex, process-shared, error-checking and robust: 40 bytes that other programs (mpmetrics among them)
 * use as well. The word is a futex; taking and releasing a free lock is two compare-and-swaps without the kernel. The kernel
 * follows the list of locks that a thread holds when the thread ends, however it ends, and marks them: the next to come gets
 * EOWNERDEAD, once. Here that one puts the lock in order and gives it back before the exception, so those after it find it free.
 *
 * That list runs through the locks themselves, in each thread's address space. So a Lock that is held keeps itself alive: its
 * memory cannot be unmapped under the list. Memory that holds no such mutex is refused (EINVAL), not trusted to the C library.
 *
 * Who waits looks at the word for a moment first, then sleeps without the GIL, in slices after which signal handlers run.
 * Time-outs run on the monotonic clock.
 */
#include "memory.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#if defined __x86_64__ || defined __i386__
#define cpu_relax() __builtin_ia32_pause()
#else
#define cpu_relax() ((void)0)
#endif

enum { SPINS = 200, SLICE_NS = 50000000 };

typedef struct {
    buffer base;
    bool held; /* by a thread of this process, through this object: then it has a reference to itself */
} lock;

static pthread_mutex_t fresh; /* as a free lock looks */

static int fresh_init(void)
{
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (!error)
        error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!error)
        error = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    if (!error)
        error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    return error ? error : pthread_mutex_init(&fresh, &attributes);
}

static PyObject *fail(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* The mutex, or NULL with an exception where there is none. */
static pthread_mutex_t *mutex_of(PyObject *self)
{
    pthread_mutex_t *mutex = buffer_memory(self);
    if (mutex && mutex->__data.__kind != fresh.__data.__kind) {
        PyErr_SetObject(PyExc_OSError, Py_BuildValue("(is)", EINVAL, "the memory holds no lock: make one with Lock(mem)"));
        return NULL;
    }
    return mutex;
}

static inline void hold(lock *self)
{
    if (!self->held) {
        self->held = true;
        Py_INCREF(self);
    }
}

/* 0: taken; else an exception, or EBUSY without one. A dead holder's lock is put in order and stays free. */
static int settle(lock *self, pthread_mutex_t *mutex, int error)
{
    if (error == 0) {
        hold(self);
    } else if (error == EOWNERDEAD) {
        pthread_mutex_consistent(mutex);
        pthread_mutex_unlock(mutex);
        fail(error);
    } else if (error != EBUSY) {
        fail(error);
    }
    return error;
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Looks at the word without taking the line away from the holder. */
static int spin(pthread_mutex_t *mutex)
{
    for (int i = 0; i < SPINS; i++) {
        if (*(volatile int *)&mutex->__data.__lock == 0) {
            int error = pthread_mutex_trylock(mutex);
            if (error != EBUSY)
                return error;
        }
        cpu_relax();
    }
    return EBUSY;
}

/* Waits until `end` on the monotonic clock, INT64_MAX: for ever. As settle(); EINTR: a signal handler raised. */
static int wait_until(lock *self, pthread_mutex_t *mutex, int64_t end)
{
    for (;;) {
        int64_t until = monotonic_ns() + SLICE_NS;
        bool last = end <= until;
        if (last)
            until = end;
        struct timespec at = { until / 1000000000, until % 1000000000 };
        int error;
        Py_BEGIN_ALLOW_THREADS error = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &at);
        Py_END_ALLOW_THREADS if (error != ETIMEDOUT) return settle(self, mutex, error);
        if (PyErr_CheckSignals() < 0)
            return EINTR;
        if (last)
            return EBUSY;
    }
}

static int take(PyObject *self, int64_t timeout)
{
    pthread_mutex_t *mutex = mutex_of(self);
    if (!mutex)
        return EINVAL;
    int error = pthread_mutex_trylock(mutex);
    if (error == EBUSY && timeout != 0)
        error = spin(mutex);
    if (error != EBUSY || timeout == 0)
        return settle((lock *)self, mutex, error);
    Py_INCREF(self); /* the caller's reference may go while the GIL is away */
    int64_t now = timeout == INT64_MAX ? 0 : monotonic_ns();
    error = wait_until((lock *)self, mutex, timeout > INT64_MAX - now ? INT64_MAX : now + timeout);
    Py_DECREF(self);
    return error;
}

static PyObject *answer(int error)
{
    if (error == 0)
        Py_RETURN_TRUE;
    if (error == EBUSY)
        Py_RETURN_FALSE;
    return NULL;
}

/* Nanoseconds of a time-out in seconds. */
static int timeout_of(PyObject *seconds, int64_t *timeout)
{
    *timeout = INT64_MAX;
    if (!seconds || seconds == Py_None)
        return 0;
    double value = PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred())
        return -1;
    if (value != value) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number");
        return -1;
    }
    if (value <= 0)
        *timeout = 0;
    else if (value < 9e9)
        *timeout = (int64_t)(value * 1e9);
    return 0;
}

static PyObject *lock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const known[] = { "block", "timeout", NULL };
    if (count == 0 && !names)
        return answer(take(self, INT64_MAX));
    PyObject *values[2] = { NULL, NULL };
    if (arguments("acquire", args, count, names, known, 0, values) < 0)
        return NULL;
    int block = values[0] ? PyObject_IsTrue(values[0]) : 1;
    int64_t timeout;
    if (block < 0 || timeout_of(values[1], &timeout) < 0)
        return NULL;
    return answer(take(self, block ? timeout : 0));
}

static int give(PyObject *self)
{
    pthread_mutex_t *mutex = mutex_of(self);
    if (!mutex)
        return -1;
    int error = pthread_mutex_unlock(mutex);
    if (error) {
        fail(error);
        return -1;
    }
    lock *mine = (lock *)self;
    if (mine->held) {
        mine->held = false;
        Py_DECREF(self);
    }
    return 0;
}

static PyObject *lock_release(PyObject *self, PyObject *none)
{
    (void)none;
    if (give(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *lock_enter(PyObject *self, PyObject *none)
{
    (void)none;
    return answer(take(self, INT64_MAX));
}

static PyObject *lock_exit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)args;
    (void)count;
    return lock_release(self, NULL);
}

static PyObject *lock_repr(PyObject *self)
{
    const char *name = Py_TYPE(self)->tp_name;
    pthread_mutex_t *mutex = ((buffer *)self)->view.buf;
    if (!mutex || mutex->__data.__kind != fresh.__data.__kind)
        return PyUnicode_FromFormat("<%s: %s>", name, mutex ? "no lock" : "None");
    unsigned word = *(volatile unsigned *)&mutex->__data.__lock, owner = word & 0x3fffffff;
    if (owner)
        return PyUnicode_FromFormat("<%s: held by thread %u>", name, owner);
    return PyUnicode_FromFormat("<%s: %s>", name, word & 0x40000000 ? "its holder died" : "free");
}

static int lock_attach(PyObject *self, PyObject *mem)
{
    if (((lock *)self)->held) {
        PyErr_SetString(PyExc_ValueError, "the lock is held: release it before it gets other memory");
        return -1;
    }
    return buffer_attach((buffer *)self, mem, sizeof(pthread_mutex_t), _Alignof(int));
}

static int lock_init(PyObject *self, PyObject *args, PyObject *ignored)
{
    (void)ignored;
    PyObject *mem = buffer_argument(Py_TYPE(self), args);
    if (!mem || lock_attach(self, mem) < 0)
        return -1;
    *(pthread_mutex_t *)((buffer *)self)->view.buf = fresh;
    return 0;
}

static PyObject *lock_setstate(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *mem = buffer_mem_and_heap("_setstate", args, count, names);
    if (!mem || lock_attach(self, mem) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef lock_methods[] = {
    METHOD(
        "acquire", lock_acquire,
        PyDoc_STR(
            "acquire($self, block=True, timeout=None)\n--\n\nTake the lock; True if it was taken.\n\n"
            "Parameters\n----------\nblock : bool\n    False: do not wait; 'timeout' is ignored.\n"
            "timeout : float or None\n    Seconds to wait at most, None for ever. Negative is 0.\n\n"
            "Raises\n------\nOSError\n    EDEADLK: this thread holds it. EOWNERDEAD: its holder died; told once, the lock is free then.")),
    { "release", lock_release, METH_NOARGS,
      PyDoc_STR("release($self)\n--\n\nGive the lock back. PermissionError if this thread does not hold it.") },
    { "__enter__", lock_enter, METH_NOARGS, PyDoc_STR("__enter__($self)\n--\n\nacquire()") },
    { "__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, PyDoc_STR("__exit__($self, /, *args)\n--\n\nrelease()") },
    METHOD("_setstate", lock_setstate, SETSTATE_TEXT),
    { NULL, NULL, 0, NULL },
};

static PyTypeObject lock_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cuelight.primitives.Lock",
    .tp_doc = PyDoc_STR(
        "Lock(mem, /, **ignored)\n--\n\nA lock between processes in 'mem', which is initialised as free. The owner is the thread; the lock "
        "is not\nreentrant, survives the death of its holder, and is a context manager.\n\n"
        "Parameters\n----------\nmem : writable bytes-like\n    At least 40 bytes at a multiple of 4, kept for the object's life.\n\n"
        "Raises\n------\nTypeError\n    `mem` is not writable memory.\nValueError\n    It is too short or lies at an odd address."),
    .tp_basicsize = sizeof(lock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_base = &buffer_type,
    .tp_init = lock_init,
    .tp_repr = lock_repr,
    .tp_methods = lock_methods,
};

int add_lock(PyObject *module)
{
    int error = fresh_init();
    if (error) {
        fail(error);
        return -1;
    }
    if (PyModule_AddType(module, &lock_type) < 0)
        return -1;
    return set_geometry(&lock_type, sizeof(pthread_mutex_t), _Alignof(pthread_mutex_t));
}
