// What g++'s -fsanitize-coverage=trace-pc calls at every edge. libFuzzer no longer reads such
// calls, but it reads counters that lie in a section of this name. Programs that are not fuzzed
// count in vain, which costs them next to nothing.
#include <cstdint>

namespace {
constexpr uintptr_t kCounters = uintptr_t{1} << 16;
// Whole pages, so that main.cc can share them with child processes.
__attribute__((section("__libfuzzer_extra_counters"),
               used)) alignas(4096) uint8_t counters[kCounters];
}  // namespace

extern "C" void __sanitizer_cov_trace_pc();
extern "C" void __sanitizer_cov_trace_pc() {
  const auto address = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  uint8_t& counter = counters[(address ^ address >> 16) % kCounters];
  if (counter != UINT8_MAX) ++counter;
}
