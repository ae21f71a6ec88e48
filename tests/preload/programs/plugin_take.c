// A library that hands out memory which its caller frees; see processes.c.
#include <stdlib.h>

void* plugin_take(size_t size) { return malloc(size); }
