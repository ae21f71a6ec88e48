// A preload that takes over opening files and allocates while it does, as fakechroot and snoopy do; see
// foreign_test.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_by(const char* name, const char* path, int flags, mode_t mode) {
  int (*real)(const char*, int, ...) = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, name);
  char* copy = strdup(path);
  char* variable = getenv("HOME");
  char* joined = malloc(strlen(copy) + (variable != NULL ? strlen(variable) : 0) + 1);
  strcpy(joined, copy);
  const int fd = real(joined, flags, mode);
  free(joined);
  free(copy);
  return fd;
}

#define HOOK(name)                                 \
  int name(const char* path, int flags, ...) {     \
    va_list arguments;                             \
    va_start(arguments, flags);                    \
    const mode_t mode = va_arg(arguments, mode_t); \
    va_end(arguments);                             \
    return open_by(#name, path, flags, mode);      \
  }
HOOK(open)
HOOK(open64)

ssize_t readlink(const char* path, char* buffer, size_t size) {
  ssize_t (*real)(const char*, char*, size_t) = (ssize_t(*)(const char*, char*, size_t))dlsym(RTLD_NEXT, "readlink");
  free(strdup(path));
  return real(path, buffer, size);
}
