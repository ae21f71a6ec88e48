// A library that prints what its constructor is given: arguments and environment. surroundings.c opens it.
#include <stdio.h>
#include <stdlib.h>

__attribute__((constructor)) static void print_arguments(int argc, char** argv, char** environment) {
  printf("constructor: %d arguments, the first is %s\n", argc, argv != NULL ? argv[0] : "missing");
  printf("constructor: environment %s\n", environment != NULL && environment[0] != NULL ? "there" : "missing");
}
