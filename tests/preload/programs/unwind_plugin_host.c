// Loads each plugin in turn, lets it call back into this program, which allocates, and unloads it:
//   unwind_plugin_host PLUGIN...
// The plugins' unwinding tables may be damaged or missing (unwinding_modules_test.py): code runs as well without them.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define HERE __asm__ volatile("" ::: "memory")  // no tail call
__attribute__((noinline, noclone)) void called_back(void) {
  void* volatile block = malloc(3131);
  free(block);
  HERE;
}

int main(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    void* library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
      printf("%s\n", dlerror());
      return 1;
    }
    void (*call)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(library, "plugin_call");
    for (int k = 0; k < 3; k++) call(called_back);
    dlclose(library);
  }
  printf("plugins %d\n", argc - 1);
  return 0;
}
