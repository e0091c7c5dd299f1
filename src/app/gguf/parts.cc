#include "app/gguf/parts.h"

#include <fmt/format.h>

#include <limits>
#include <system_error>

#include "base/error.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Where each part begins, and the end of the last.
std::vector<size_t> bounds_of(const std::vector<GgufTensor>& tensors, uint64_t most) {
  std::vector<size_t> bounds = {0};
  uint64_t bytes = 0;
  for (size_t i = 0; most > 0 && i < tensors.size(); ++i) {
    const uint64_t own = gguf_bytes(tensors[i].type, element_count(tensors[i].shape));
    if (bytes > 0 && bytes + own > most) {
      bounds.push_back(i);
      bytes = 0;
    }
    bytes += own;
  }
  bounds.push_back(tensors.size());
  return bounds;
}

}  // namespace

fs::path gguf_part_name(const fs::path& out, size_t part, size_t count) {
  return out.parent_path() /
         fmt::format("{}-{:05}-of-{:05}.gguf", out.stem().string(), part + 1, count);
}

std::vector<GgufPart> gguf_parts(const fs::path& out, const GgufMetadata& metadata,
                                 const std::vector<GgufTensor>& tensors, uint64_t most) {
  const std::vector<size_t> bounds = bounds_of(tensors, most);
  const size_t count = bounds.size() - 1;
  if (count == 1) return {{out, 0, tensors.size(), lay_out_gguf(metadata, tensors)}};
  if (count > std::numeric_limits<uint16_t>::max())
    throw usage_error("{}: {} parts of at most {} bytes, llama.cpp reads up to 65535", out.string(),
                      count, most);
  std::vector<GgufPart> parts;
  for (size_t i = 0; i < count; ++i) {
    GgufMetadata own = i == 0 ? metadata : GgufMetadata();
    own["split.no"] = static_cast<uint16_t>(i);
    own["split.count"] = static_cast<uint16_t>(count);
    own["split.tensors.count"] = static_cast<int32_t>(tensors.size());
    const std::vector<GgufTensor> of_part(
        tensors.begin() + static_cast<std::ptrdiff_t>(bounds[i]),
        tensors.begin() + static_cast<std::ptrdiff_t>(bounds[i + 1]));
    parts.push_back(
        {gguf_part_name(out, i, count), bounds[i], bounds[i + 1], lay_out_gguf(own, of_part)});
  }
  return parts;
}

fs::path find_first_part(const fs::path& out) {
  const std::string begin = out.stem().string() + "-00001-of-";
  const fs::path folder = out.parent_path().empty() ? fs::path(".") : out.parent_path();
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() == begin.size() + 10 && name.starts_with(begin) && name.ends_with(".gguf"))
      return out.parent_path() / name;
  }
  return {};
}

}  // namespace lewis
