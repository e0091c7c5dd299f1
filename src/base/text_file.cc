#include "base/text_file.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "base/whole_file.h"

namespace lewis {

std::string read_text_file(const std::filesystem::path& file) {
  std::string text = read_whole_file(open_file(file), file, SIZE_MAX);
  if (is_lfs_pointer(text)) throw lfs_pointer_error(file);
  return text;
}

bool is_lfs_pointer(std::string_view begin) {
  return begin.starts_with("version https://git-lfs.github.com/spec/") ||
         begin.starts_with("version https://hawser.github.com/spec/");
}

Error lfs_pointer_error(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  return input_error(
      "{}: is a Git LFS pointer, not the file itself; fetch it: git -C '{}' lfs pull",
      file.string(), folder.string());
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool is_utf8(std::string_view text) {
  // Lowest code point that a sequence of this many bytes may encode.
  static constexpr uint32_t kLowest[] = {0, 0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < text.size();) {
    uint64_t eight = 0x80;  // most texts are ASCII
    if (text.size() - i >= sizeof eight) std::memcpy(&eight, text.data() + i, sizeof eight);
    if ((eight & 0x8080808080808080u) == 0) {
      i += sizeof eight;
      continue;
    }
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80       ? 1
                          : lead >> 5 == 6  ? 2
                          : lead >> 4 == 14 ? 3
                          : lead >> 3 == 30 ? 4
                                            : 0;
    if (length == 0 || i + length > text.size()) return false;
    uint32_t code = length == 1 ? lead : lead & (0x7fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if (next >> 6 != 2) return false;
      code = code << 6 | (next & 0x3fu);
    }
    if (length > 1 && code < kLowest[length]) return false;
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    i += length;
  }
  return true;
}

}  // namespace lewis
