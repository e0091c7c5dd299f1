// Debian's libfyaml.a is made for programs: it takes stdin, stdout and stderr for variables of the
// program, which code in a module of Python cannot. cmake/portable.cmake gives them these names.
#include <stdio.h>

FILE *lewis_stdin, *lewis_stdout, *lewis_stderr;

__attribute__((constructor)) static void set_standard_files(void) {
  lewis_stdin = stdin;
  lewis_stdout = stdout;
  lewis_stderr = stderr;
}
