#include <Python.h>

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "backpack_proto.book._side", NULL, 0, NULL, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__side(void);

PyMODINIT_FUNC PyInit__side(void)
{
    return PyModuleDef_Init(&definition);
}
