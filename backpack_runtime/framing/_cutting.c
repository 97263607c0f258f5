/* The twin of cutting.py in C, which says what it is and how it is to behave. It knows no rule but those of RFC 6455 about the header. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define TEXT_FRAME 0x81 /* final, no reserved bit, opcode text (RFC 6455 section 5.2) */

typedef struct {
    PyObject *fact; /* the class TextReceived */
} State;

static int
is_ascii(const unsigned char *bytes, Py_ssize_t size)
{
    const uint64_t high_bits = UINT64_C(0x8080808080808080);
    uint64_t found = 0, word;
    Py_ssize_t i = 0;
    for (; i + (Py_ssize_t)sizeof word <= size; i += (Py_ssize_t)sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        found |= word;
    }
    for (; i < size; i++) {
        found |= bytes[i];
    }
    return !(found & high_bits);
}

/* Return whether it is text, -1 with an exception set where that cannot be told. */
static int
is_utf8(const unsigned char *bytes, Py_ssize_t size)
{
    if (is_ascii(bytes, size)) {
        return 1;
    }
    PyObject *text = PyUnicode_DecodeUTF8((const char *)bytes, size, NULL);
    if (text != NULL) {
        Py_DECREF(text);
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static PyObject *
slice_texts(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(self);
    char *data;
    Py_ssize_t end, pos, longest;

    if (count != 5 || !PyBytes_Check(args[0]) || !PyList_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "slice_texts(data, pos, longest, received_us, facts): bytes first, a list last");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[0], &data, &end) < 0) {
        return NULL;
    }
    pos = PyLong_AsSsize_t(args[1]);
    longest = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (pos < 0) {
        PyErr_Format(PyExc_ValueError, "pos: 0 or more, got %zd", pos);
        return NULL;
    }
    const unsigned char *bytes = (const unsigned char *)data;
    while (end - pos >= 2 && bytes[pos] == TEXT_FRAME) {
        Py_ssize_t length = bytes[pos + 1], start = pos + 2;
        if (length == 126) {
            start = pos + 4;
            if (end < start) {
                break;
            }
            length = bytes[pos + 2] << 8 | bytes[pos + 3];
            if (length < 126) {
                break;
            }
        }
        else if (length > 126) {
            break;
        }
        if (length > end - start || length > longest) {
            break;
        }
        int good = is_utf8(bytes + start, length);
        if (good < 0) {
            return NULL;
        }
        if (!good) {
            break;
        }
        PyObject *payload = PyBytes_FromStringAndSize(data + start, length);
        if (payload == NULL) {
            return NULL;
        }
        PyObject *fact = PyObject_CallFunctionObjArgs(state->fact, payload, args[3], NULL);
        Py_DECREF(payload);
        if (fact == NULL) {
            return NULL;
        }
        int failed = PyList_Append(args[4], fact);
        Py_DECREF(fact);
        if (failed) {
            return NULL;
        }
        pos = start + length;
    }
    return PyLong_FromSsize_t(pos);
}

static PyMethodDef functions[] = {
    {"slice_texts", (PyCFunction)(void (*)(void))slice_texts, METH_FASTCALL,
     "Take the run of short, whole, final, unmasked text frames at `pos`; return where it ends."},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *self)
{
    State *state = PyModule_GetState(self);
    PyObject *inputs = PyImport_ImportModule("backpack_proto.inputs");
    if (inputs == NULL) {
        return -1;
    }
    state->fact = PyObject_GetAttrString(inputs, "TextReceived");
    Py_DECREF(inputs);
    return state->fact == NULL ? -1 : 0;
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((State *)PyModule_GetState(self))->fact);
    return 0;
}

static int
clear(PyObject *self)
{
    Py_CLEAR(((State *)PyModule_GetState(self))->fact);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "backpack_runtime.framing._cutting",
    .m_doc = "Cutting frames; the twin of `cutting` in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__cutting(void)
{
    return PyModuleDef_Init(&module);
}
