#include "base/model_files.h"

#include "base/text_file.h"

namespace lewis {

std::optional<std::string> ModelFiles::read(const std::string& name) const {
  if (const auto found = changed.find(name); found != changed.end()) return found->second;
  const std::filesystem::path file = folder / name;
  if (!std::filesystem::exists(file)) return std::nullopt;
  return read_text_file(file);
}

}  // namespace lewis
