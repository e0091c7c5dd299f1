#include "base/build.h"

#include <elf.h>
#include <fmt/format.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/build_source.h"

namespace lewis {
namespace {

using Bytes = std::span<const std::byte>;

// The build ID in a segment of notes as hexadecimal digits; "" if it holds none.
std::string build_id_of(Bytes notes, size_t alignment) {
  const auto padded = [&](size_t size) { return (size + alignment - 1) / alignment * alignment; };
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) head;
    std::memcpy(&head, notes.data(), sizeof head);
    const size_t name = sizeof head, id = padded(name + head.n_namesz);
    if (id + head.n_descsz > notes.size()) break;
    if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 &&
        std::memcmp(notes.data() + name, "GNU", 4) == 0) {
      std::string digits;
      for (const std::byte b : notes.subspan(id, head.n_descsz))
        digits += fmt::format("{:02x}", static_cast<unsigned>(b));
      return digits;
    }
    notes = notes.subspan(std::min(notes.size(), padded(id + head.n_descsz)));
  }
  return "";
}

struct Search {
  uintptr_t address;  // in the object that is looked for
  std::string found;
};

// Called for every program and library in memory, as dl_iterate_phdr does; 1 ends the search.
int look_into_object(dl_phdr_info* object, size_t, void* data) {
  Search& search = *static_cast<Search*>(data);
  const std::span segments(object->dlpi_phdr, object->dlpi_phnum);
  bool ours = false;
  for (const auto& s : segments) {
    const uintptr_t begin = object->dlpi_addr + s.p_vaddr;
    if (s.p_type == PT_LOAD && search.address >= begin && search.address - begin < s.p_memsz)
      ours = true;
  }
  if (!ours) return 0;
  for (const auto& s : segments) {
    if (s.p_type != PT_NOTE || !search.found.empty()) continue;
    const auto* begin = reinterpret_cast<const std::byte*>(object->dlpi_addr + s.p_vaddr);
    search.found = build_id_of({begin, s.p_memsz}, s.p_align == 8 ? 8 : 4);
  }
  return 1;
}

std::string build_id() {
  Search search{reinterpret_cast<uintptr_t>(&look_into_object), ""};
  dl_iterate_phdr(look_into_object, &search);
  return search.found;
}

#define LEWIS_TEXT_OF(...) #__VA_ARGS__
#define LEWIS_EXPANDED_TEXT_OF(...) LEWIS_TEXT_OF(__VA_ARGS__)
// False where LEWIS_VECTORIZED stands for nothing: under sanitizers and on other processors.
[[maybe_unused]] constexpr bool kHasVariants = sizeof(LEWIS_EXPANDED_TEXT_OF(LEWIS_VECTORIZED)) > 1;

}  // namespace

std::string lewis_version() { return kSourceVersion; }

std::string build_name() {
  static const std::string id = build_id().substr(0, 12);
  return id.empty() ? kSourceCommit : fmt::format("{}+{}", kSourceCommit, id);
}

std::string version_and_build() {
  return fmt::format("{} (build {})", kSourceVersion, build_name());
}

std::string instruction_set() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kHasVariants && __builtin_cpu_supports("x86-64-v4")) return "x86-64-v4: AVX-512";
  if (kHasVariants && __builtin_cpu_supports("x86-64-v3")) return "x86-64-v3: AVX2";
  return "x86-64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "generic";
#endif
}

}  // namespace lewis
