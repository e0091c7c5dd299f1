// Debian's static libxxhash lacks the functions that its header calls on x86-64, which choose the
// instruction set at run time. These are ours: AVX2 where the processor has it, else the library's.
// All give the same hash.
#pragma GCC target("avx2")
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include <xxhash.h>

#pragma GCC target("no-avx2")
#define PLAIN(name) plain_##name
// The library's own functions; the inline ones above have the same names in C, so an alias is needed.
extern XXH64_hash_t PLAIN(64bits)(const void*, size_t) __asm__("XXH3_64bits");
extern XXH64_hash_t PLAIN(seeded)(const void*, size_t, XXH64_hash_t) __asm__("XXH3_64bits_withSeed");
extern XXH_errorcode PLAIN(update)(XXH3_state_t*, const void*, size_t) __asm__("XXH3_64bits_update");

static int has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2");
}

#define AVX2 __attribute__((target("avx2"), noinline))
AVX2 static XXH64_hash_t fast_64bits(const void* data, size_t size) {
  return XXH3_64bits(data, size);
}
AVX2 static XXH64_hash_t fast_seeded(const void* data, size_t size, XXH64_hash_t seed) {
  return XXH3_64bits_withSeed(data, size, seed);
}
AVX2 static XXH_errorcode fast_update(XXH3_state_t* state, const void* data, size_t size) {
  return XXH3_64bits_update(state, data, size);
}

XXH64_hash_t XXH3_64bits_dispatch(const void* data, size_t size) {
  return has_avx2() ? fast_64bits(data, size) : PLAIN(64bits)(data, size);
}
XXH64_hash_t XXH3_64bits_withSeed_dispatch(const void* data, size_t size, XXH64_hash_t seed) {
  return has_avx2() ? fast_seeded(data, size, seed) : PLAIN(seeded)(data, size, seed);
}
XXH_errorcode XXH3_64bits_update_dispatch(XXH3_state_t* state, const void* data, size_t size) {
  return has_avx2() ? fast_update(state, data, size) : PLAIN(update)(state, data, size);
}
