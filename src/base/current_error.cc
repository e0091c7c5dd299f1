#include "base/current_error.h"

#include <cerrno>
#include <new>
#include <stdexcept>

#include "base/error.h"
#include "base/json.h"

namespace lewis {

ExitCode exit_code_of(const std::error_code& code) {
  if (code.category() != std::generic_category() && code.category() != std::system_category())
    return ExitCode::kFailed;
  switch (code.value()) {
    case EAGAIN:  // a thread or process
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC:
    case EPIPE:  // nobody reads any more
      return ExitCode::kResource;
    default:
      return ExitCode::kInput;
  }
}

Error file_error(const std::filesystem::path& path, std::string_view doing,
                 const std::error_code& code) {
  return Error(exit_code_of(code), fmt::format("{}: {}: {}", path.string(), doing, code.message()));
}

Error file_error(const std::filesystem::path& path, std::string_view doing) {
  return file_error(path, doing, {errno, std::generic_category()});
}

Error current_error() {
  try {
    throw;
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return resource_error("out of memory");
  } catch (const std::length_error& e) {
    return resource_error("out of memory: {}", e.what());
  } catch (const std::filesystem::filesystem_error& e) {
    std::string where = e.path1().string();
    if (!e.path2().empty()) where += ", " + e.path2().string();
    return Error(exit_code_of(e.code()), fmt::format("{}: {}", where, e.code().message()));
  } catch (const std::system_error& e) {
    return Error(exit_code_of(e.code()), e.what());
  } catch (const Json::exception& e) {
    return input_error("a JSON file holds a value of a kind that is not expected: {}", e.what());
  } catch (const std::exception& e) {
    return failed_error("unexpected: {}", e.what());
  } catch (...) {
    return failed_error("unexpected: an exception of an unknown type");
  }
}

}  // namespace lewis
