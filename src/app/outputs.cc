#include "app/outputs.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/current_error.h"
#include "base/error.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

Error refused(const fs::path& file, const std::error_code& why) {
  return Error(exit_code_of(why),
               fmt::format("{}: cannot be written: {}", file.string(), why.message()));
}

// The errors of names; not to be there is none.
fs::file_status status_of(const fs::path& path, const fs::path& file) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error && status.type() != fs::file_type::not_found) throw refused(file, error);
  if (error == std::errc::not_a_directory) throw refused(file, error);
  return status;
}

}  // namespace

void check_output(const fs::path& file, bool makes_folders) {
  status_of(file, file);
  fs::path folder = file.has_parent_path() ? file.parent_path() : ".";
  while (makes_folders && status_of(folder, file).type() == fs::file_type::not_found) {
    const fs::path above = folder.has_parent_path() ? folder.parent_path() : ".";
    if (above == folder) break;
    folder = above;
  }
  const fs::file_status status = status_of(folder, file);
  if (status.type() == fs::file_type::not_found)
    throw refused(file, std::make_error_code(std::errc::no_such_file_or_directory));
  if (!fs::is_directory(status))
    throw refused(file, std::make_error_code(std::errc::not_a_directory));
  if (!fs::exists(status_of(file, file)) && access(folder.c_str(), W_OK | X_OK) != 0)
    throw refused(file, {errno, std::generic_category()});
}

}  // namespace lewis
