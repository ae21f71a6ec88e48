/* A function within a function (GNU C): its DIE is below its parent's, its code is not. */
__attribute__((noinline)) int outer_function(int x) {
  __attribute__((noinline)) int nested_function(int y) {
    asm volatile(".globl label_nested\nlabel_nested: nop"); /* TAG: nested */
    return x * y;
  }
  return nested_function(x + 2) + nested_function(x + 1);
}

int main(int argc, char** argv) {
  (void)argv;
  return outer_function(argc) == 12345;
}
