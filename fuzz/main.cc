// libFuzzer's entry points. `lewis_fuzz --target=NAME [options of libFuzzer] [folders of seeds]`
// fuzzes one target; `lewis_fuzz --list` prints their names.
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "targets.h"

namespace lewis {
namespace {

const FuzzTarget* chosen_target = nullptr;

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
