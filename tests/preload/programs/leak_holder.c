/* A library with a variable that is all that leads to a block, until the library is unloaded. */
static void *volatile held;
void hold(void *block) { held = block; }
