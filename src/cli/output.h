// All that the program writes to standard output and standard error. A text that is not known to
// be harmless is escaped here, whoever prints it.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/json_fwd.h"
#include "base/printable.h"

namespace lewis {

// Text for people: other text becomes printable() on its way in. Only `ready` lets line feeds and
// SGR codes through, for those of the program itself.
class TerminalText {
 public:
  TerminalText() = default;
  TerminalText(std::string_view text) : text_(printable(text)) {}
  TerminalText(const std::string& text) : text_(printable(text)) {}
  TerminalText(const char* text) : text_(printable(text)) {}
  static TerminalText ready(std::string text) {
    TerminalText t;
    t.text_ = std::move(text);
    return t;
  }

  const std::string& string() const { return text_; }
  bool empty() const { return text_.empty(); }
  TerminalText& operator+=(const TerminalText& more) {
    text_ += more.text_;
    return *this;
  }
  friend TerminalText operator+(TerminalText a, const TerminalText& b) { return a += b; }

 private:
  std::string text_;
};

// An argument as format() takes it: texts and paths are escaped, numbers stay.
template <typename T>
decltype(auto) shown(const T& argument) {
  if constexpr (std::is_same_v<T, TerminalText>) {
    return (argument.string());
  } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return printable(argument.string());
  } else if constexpr (std::is_convertible_v<T, std::string_view>) {
    return printable(argument);
  } else {
    return (argument);
  }
}
template <typename T>
using Shown = decltype(shown(std::declval<const T&>()));

// fmt::format with escaped arguments.
template <typename... Args>
TerminalText terminal_text(fmt::format_string<Shown<Args>...> format, const Args&... args) {
  return TerminalText::ready(fmt::format(format, shown(args)...));
}

// Writes to standard output. A failure is kept for output_error(), so that work which prints on its
// way goes on.
void write_out(const TerminalText& text);
// A text of the program itself, as it is.
template <size_t size>
void write_out(const char (&text)[size]) {
  write_out(TerminalText::ready(text));
}
template <typename... Args>
void write_out(fmt::format_string<Shown<Args>...> format, const Args&... args) {
  write_out(terminal_text(format, args...));
}

// Writes to standard error and takes no notice of failures: nobody is left to be told.
void write_err(const TerminalText& text);
template <size_t size>
void write_err(const char (&text)[size]) {
  write_err(TerminalText::ready(text));
}
template <typename... Args>
void write_err(fmt::format_string<Shown<Args>...> format, const Args&... args) {
  write_err(terminal_text(format, args...));
}

// Writes a JSON text, or a value with indents of two, and a line feed.
void write_json_text(std::string_view json);
void write_json(const Json& json);

// The errno of the first failure of write_out, 0 if all went well. After it nothing more is
// written. EPIPE: the reader has gone, as `head` does.
int output_error();

}  // namespace lewis
