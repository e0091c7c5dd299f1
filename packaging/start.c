// Where a program begins that must run with glibc 2.28 (cmake/portable.cmake). The start file of a
// newer glibc leaves it to that glibc to call the constructors; an older one expects a function.
#include <stddef.h>

extern int main(int argc, char** argv, char** environment);
extern int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv,
                             int (*construct)(int, char**, char**), void (*destroy)(void),
                             void (*loader_exit)(void), void* stack_end);

typedef void (*Constructor)(int, char**, char**);
extern const Constructor __init_array_start[] __attribute__((visibility("hidden")));
extern const Constructor __init_array_end[] __attribute__((visibility("hidden")));
extern void _init(void) __attribute__((visibility("hidden")));

static int construct(int argc, char** argv, char** environment) {
  _init();
  const size_t count = (size_t)(__init_array_end - __init_array_start);
  for (size_t i = 0; i < count; ++i) __init_array_start[i](argc, argv, environment);
  return 0;
}

// The kernel leaves argc and argv on the stack and the loader its exit function in a register. The
// loader calls the destructors, then and now.
__attribute__((noreturn, used, visibility("hidden"))) void lewis_start(size_t* stack,
                                                                       void (*loader_exit)(void)) {
  __libc_start_main(main, (int)stack[0], (char**)(stack + 1), construct, NULL, loader_exit, stack);
  __builtin_trap();
}

#if defined(__x86_64__)
__asm__(
    ".text\n.globl _start\n.type _start, @function\n_start:\n"
    ".cfi_startproc\n.cfi_undefined rip\n"
    "endbr64\nxor %ebp, %ebp\nmov %rsp, %rdi\nmov %rdx, %rsi\nand $-16, %rsp\n"
    "call lewis_start\nhlt\n.cfi_endproc\n.size _start, .-_start\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl _start\n.type _start, %function\n_start:\n"
    ".cfi_startproc\n.cfi_undefined x30\n"
    "mov x29, #0\nmov x30, #0\nmov x1, x0\nmov x0, sp\n"
    "bl lewis_start\nbrk #0\n.cfi_endproc\n.size _start, .-_start\n");
#else
#error "start.c knows x86-64 and aarch64"
#endif
