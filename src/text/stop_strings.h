// The text of token sequences that grow token by token, and the strings that end it.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace lewis {

// A token costs the decoding of a few, not of all. Special tokens are text too.
class GrowingText {
 public:
  explicit GrowingText(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  void append(int32_t id);
  // Without a character whose last bytes are still to come.
  const std::string& text() const { return text_; }

 private:
  const Tokenizer* tokenizer_;
  std::vector<int32_t> window_;  // the tokens that came last with a whole character, and newer ones
  size_t old_ = 0;               // of the window: whose text is in text_
  std::string text_;
};

// Tells when a stop string has come up in one of several texts.
class StopStrings {
 public:
  // Empty stops are ignored. The tokenizer must outlive this.
  StopStrings(const Tokenizer& tokenizer, std::vector<std::string> stops);
  // ids: all tokens of text `i` so far, more than at the last call for it. True when a stop has
  // been completed since then; the text is forgotten.
  bool completed(size_t i, std::span<const int32_t> ids);

 private:
  struct Watched {
    GrowingText text;
    size_t tokens = 0;  // that it holds
  };
  const Tokenizer& tokenizer_;
  std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::map<size_t, Watched> watched_;
};

}  // namespace lewis
