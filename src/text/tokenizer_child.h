// A tokenizer in a process of its own: the requests, and who answers them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/child_process.h"

namespace lewis {

// The functions of lewis_text.h on one tokenizer.json. They throw Error(kInput) with the library's
// words, and as ChildProcess::ask does.
class TokenizerChild {
 public:
  // where: begins the messages.
  TokenizerChild(const std::string& json, const std::string& where);

  std::vector<uint32_t> encode(std::string_view text, unsigned how) const;
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
  // The id of each token, or -1.
  std::vector<int64_t> ids_of(std::span<const std::string> tokens) const;
  std::optional<std::string> token_of(int32_t id) const;
  uint64_t vocab_size() const;

 private:
  ChildProcess child_;
};

}  // namespace lewis
