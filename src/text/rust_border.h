// Owners of what the Rust library hands over, which give it back to the library. For text/ only.
#pragma once

#include <lewis_text.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace lewis::rust {

// A text that the library wrote: a result or an error.
class Text {
 public:
  Text() = default;
  ~Text() { lewis_text_free(text_); }
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;

  LewisText* out() { return &text_; }
  std::string_view view() const { return {text_.data, text_.size}; }
  std::string str() const { return std::string(view()); }

 private:
  LewisText text_{nullptr, 0};
};

// The Error of a function of the library that returned false.
template <typename... Args>
lewis::Error failure(const Text& error, fmt::format_string<Args...> format, Args&&... args) {
  const std::string what = fmt::format(format, std::forward<Args>(args)...);
  if (error.view() == LEWIS_OUT_OF_MEMORY) return resource_error("{}: not enough memory", what);
  return input_error("{}: {}", what, error.view());
}

// Token ids that the library wrote.
class Ids {
 public:
  Ids() = default;
  ~Ids() { lewis_ids_free(ids_); }
  Ids(const Ids&) = delete;
  Ids& operator=(const Ids&) = delete;

  LewisIds* out() { return &ids_; }
  const uint32_t* begin() const { return ids_.data; }
  const uint32_t* end() const { return ids_.data + ids_.size; }
  size_t size() const { return ids_.size; }

 private:
  LewisIds ids_{nullptr, 0};
};

struct FreeTokenizer {
  void operator()(LewisTokenizer* tokenizer) const { lewis_tokenizer_free(tokenizer); }
};
struct FreeTemplate {
  void operator()(LewisTemplate* chat_template) const { lewis_template_free(chat_template); }
};

}  // namespace lewis::rust
