// Functions and variables that the compiler's libraries or newer headers ask of glibc, and that
// glibc 2.28 does not have. They are linked into programs that must run there (cmake/portable.cmake)
// and are hidden, so no other library sees them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#pragma GCC visibility push(hidden)

// Before glibc 2.33, stat() and its relatives were inline functions around these, which take the
// version of struct stat that the program was compiled with.
#ifdef __x86_64__
#define STAT_VERSION 1
#else
#define STAT_VERSION 0
#endif
struct stat;
#pragma GCC visibility push(default)
extern int __xstat(int version, const char* path, struct stat* out);
extern int __fxstat(int version, int file, struct stat* out);
extern int __lxstat(int version, const char* path, struct stat* out);
extern int __fxstatat(int version, int folder, const char* path, struct stat* out, int flags);
extern int __cxa_atexit(void (*function)(void*), void* argument, void* object);
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void* object);
#pragma GCC visibility pop

int stat(const char* path, struct stat* out) { return __xstat(STAT_VERSION, path, out); }
int fstat(int file, struct stat* out) { return __fxstat(STAT_VERSION, file, out); }
int lstat(const char* path, struct stat* out) { return __lxstat(STAT_VERSION, path, out); }
int fstatat(int folder, const char* path, struct stat* out, int flags) {
  return __fxstatat(STAT_VERSION, folder, path, out, flags);
}
// Files are 64-bit anyway on both architectures, and so are these structs.
int stat64(const char* path, struct stat* out) { return stat(path, out); }
int fstat64(int file, struct stat* out) { return fstat(file, out); }
int lstat64(const char* path, struct stat* out) { return lstat(path, out); }
int fstatat64(int folder, const char* path, struct stat* out, int flags) {
  return fstatat(folder, path, out, flags);
}

// Every program and library has these two of its own, with its own handle.
extern void* __dso_handle;
int atexit(void (*function)(void)) {
  return __cxa_atexit((void (*)(void*))(uintptr_t)function, NULL, __dso_handle);
}
int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
  return __register_atfork(prepare, parent, child, __dso_handle);
}

// Since glibc 2.30. Older versions wait by the clock of the condition alone, which is the one of the
// wall: what is left of the time is added to that. Who waits looks at its own clock afterwards.
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const struct timespec* until) {
  if (clock == CLOCK_REALTIME) return pthread_cond_timedwait(condition, mutex, until);
  struct timespec now, wall;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &wall);
  const long billion = 1000000000;
  wall.tv_sec += until->tv_sec - now.tv_sec;
  wall.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (wall.tv_nsec < 0) wall.tv_nsec += billion, --wall.tv_sec;
  if (wall.tv_nsec >= billion) wall.tv_nsec -= billion, ++wall.tv_sec;
  return pthread_cond_timedwait(condition, mutex, &wall);
}

// Since glibc 2.32: whether the process has one thread. The C++ library counts references without
// atomic operations if so. "No" is always right.
char __libc_single_threaded = 0;

// Since glibc 2.36, for std::random_device.
uint32_t arc4random(void) {
  uint32_t number = 0;
  unsigned char* next = (unsigned char*)&number;
  size_t left = sizeof number;
  while (left > 0) {
    const ssize_t got = getrandom(next, left, 0);
    if (got < 0 && errno != EINTR) __builtin_trap();
    if (got > 0) next += got, left -= (size_t)got;
  }
  return number;
}

// Since glibc 2.35: where the table for exceptions is of the code at `address`. libgcc 12 asks for
// nothing else. Nearly all code is in this very object, whose headers are at hand. No lock is taken
// for it, so a child process of fork() may throw.
extern const ElfW(Ehdr) __ehdr_start;
extern const char _end[];

static int find_table(const ElfW(Phdr) * headers, size_t count, uintptr_t base,
                      struct dl_find_object* out) {
  for (size_t i = 0; i < count; ++i) {
    if (headers[i].p_type == PT_GNU_EH_FRAME) {
      out->dlfo_eh_frame = (void*)(base + headers[i].p_vaddr);
      return 1;
    }
  }
  return 0;
}

struct Search {
  uintptr_t address;
  struct dl_find_object* out;
};

static int look_at_object(struct dl_phdr_info* info, size_t size, void* argument) {
  (void)size;
  const struct Search* search = argument;
  for (size_t i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)* header = &info->dlpi_phdr[i];
    const uintptr_t first = info->dlpi_addr + header->p_vaddr;
    if (header->p_type != PT_LOAD || search->address < first ||
        search->address - first >= header->p_memsz) {
      continue;
    }
    search->out->dlfo_map_start = (void*)first;
    search->out->dlfo_map_end = (void*)(first + header->p_memsz);
    return find_table(info->dlpi_phdr, info->dlpi_phnum, info->dlpi_addr, search->out) ? 1 : -1;
  }
  return 0;
}

int _dl_find_object(void* address, struct dl_find_object* out) {
  *out = (struct dl_find_object){0};
  const uintptr_t base = (uintptr_t)&__ehdr_start, end = (uintptr_t)_end;
  if ((uintptr_t)address >= base && (uintptr_t)address < end) {  // linked at 0, so base is the shift
    out->dlfo_map_start = (void*)base;
    out->dlfo_map_end = (void*)end;
    const ElfW(Phdr)* headers = (const void*)(base + __ehdr_start.e_phoff);
    return find_table(headers, __ehdr_start.e_phnum, base, out) ? 0 : -1;
  }
  struct Search search = {(uintptr_t)address, out};
  return dl_iterate_phdr(look_at_object, &search) == 1 ? 0 : -1;
}

#pragma GCC visibility pop
