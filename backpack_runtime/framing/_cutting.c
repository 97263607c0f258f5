#include <Python.h>

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "backpack_runtime.framing._cutting", NULL, 0, NULL, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__cutting(void);

PyMODINIT_FUNC PyInit__cutting(void)
{
    return PyModuleDef_Init(&definition);
}
