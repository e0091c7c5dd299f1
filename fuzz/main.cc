// libFuzzer's entry points. `lewis_fuzz --target=NAME [options of libFuzzer] [folders of seeds]`
// fuzzes one target; `lewis_fuzz --list` prints their names.
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "targets.h"

// Where the counters of the C++ code (coverage.cc) and of the Rust code lie; the linker knows.
// There are none of Rust's where it is not instrumented (LEWIS_FUZZ_RUST).
extern "C" {
extern uint8_t __start___libfuzzer_extra_counters[], __stop___libfuzzer_extra_counters[];
extern uint8_t __start___sancov_cntrs[] __attribute__((weak));
extern uint8_t __stop___sancov_cntrs[] __attribute__((weak));
}

namespace lewis {
namespace {

const FuzzTarget* chosen_target = nullptr;

// Tokenizers and templates run in child processes (text/child_process.h), whose counters the fuzzer
// sees where they are the parent's. Only whole pages can be shared.
void share_with_children(uint8_t* begin, uint8_t* end) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  const uintptr_t last = reinterpret_cast<uintptr_t>(end) / kPage * kPage;
  if (first >= last) return;
  void* const place = reinterpret_cast<void*>(first);
  if (::mmap(place, last - first, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
             -1, 0) != place) {
    std::abort();
  }
}

[[noreturn]] void list_targets(int code) {
  for (const FuzzTarget& target : fuzz_targets())
    std::printf("%.*s\n", static_cast<int>(target.name.size()), target.name.data());
  std::exit(code);
}

}  // namespace

FuzzFolder::FuzzFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "lewis-fuzz-XXXXXX").string();
  if (!::mkdtemp(name.data())) std::abort();
  path_ = name;
}

FuzzFolder::~FuzzFolder() { std::filesystem::remove_all(path_); }

std::filesystem::path FuzzFolder::write(std::string_view name, std::string_view bytes) const {
  const std::filesystem::path file = path_ / name;
  std::FILE* out = std::fopen(file.c_str(), "wb");
  if (!out || std::fwrite(bytes.data(), 1, bytes.size(), out) != bytes.size()) std::abort();
  std::fclose(out);
  return file;
}

void fuzz_check(bool holds, std::string_view law) {
  if (holds) return;
  std::fprintf(stderr, "broken law: %.*s\n", static_cast<int>(law.size()), law.data());
  std::abort();
}

}  // namespace lewis

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kOption = "--target=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = (*argv)[i];
    if (argument == "--list") lewis::list_targets(0);
    if (!argument.starts_with(kOption)) continue;
    const auto targets = lewis::fuzz_targets();
    const auto found =
        std::ranges::find(targets, argument.substr(kOption.size()), &lewis::FuzzTarget::name);
    if (found != targets.end()) lewis::chosen_target = &*found;
  }
  if (!lewis::chosen_target) lewis::list_targets(2);
  lewis::share_with_children(__start___libfuzzer_extra_counters, __stop___libfuzzer_extra_counters);
  if (__start___sancov_cntrs)
    lewis::share_with_children(__start___sancov_cntrs, __stop___sancov_cntrs);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const lewis::FuzzFolder folder;
  try {
    lewis::chosen_target->run({reinterpret_cast<const char*>(data), size}, folder);
  } catch (const lewis::Error&) {
    // Refused, as it should be.
  }
  return 0;
}
