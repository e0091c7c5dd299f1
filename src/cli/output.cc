#include "cli/output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "base/dump_json.h"

namespace lewis {
namespace {

// The errno of the failure, or 0.
int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(file, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd ready = {file, POLLOUT, 0};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int& first_error() {
  static int error = 0;
  return error;
}

}  // namespace

void write_out(const TerminalText& text) {
  if (first_error() == 0) first_error() = write_all(STDOUT_FILENO, text.string());
}

void write_err(const TerminalText& text) { write_all(STDERR_FILENO, text.string()); }

void write_json_text(std::string_view json) {
  write_out(TerminalText::ready(printable_json(json) + "\n"));
}

void write_json(const Json& json) { write_json_text(dump_json(json, 2)); }

int output_error() { return first_error(); }

}  // namespace lewis
