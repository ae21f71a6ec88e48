// Loads, calls and unloads libraries in turn; the loader gives them the same addresses. plugins ROUNDS LIBRARY...
// Prints where each one lay.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  for (int round = 0; round < atoi(argv[1]); round++) {
    for (int i = 2; i < argc; i++) {
      void* library = dlopen(argv[i], RTLD_NOW);
      void (*plugin)(void* volatile*) = (void (*)(void* volatile*))dlsym(library, "plugin");
      if (plugin == NULL) return 1;
      void* volatile block;
      plugin(&block);
      printf("%p\n", (void*)plugin);
      dlclose(library);
    }
  }
  return 0;
}
