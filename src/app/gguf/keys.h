// The metadata of a GGUF model, read with errors that name the file and the key.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/gguf.h"

namespace lewis {

class GgufKeys {
 public:
  // `file` must outlive this. Error(kInput): general.architecture is missing.
  explicit GgufKeys(const GgufFile& file);

  const std::string& architecture() const { return architecture_; }
  std::string where() const { return file_.path().string(); }

  // The value of a key, of any type of whole numbers, of floats, or of another type. Nothing where
  // the key is missing; Error(kInput) where it has another type or is negative.
  std::optional<int64_t> find_count(std::string_view key) const;
  std::optional<float> find_float(std::string_view key) const;
  std::optional<bool> find_flag(std::string_view key) const;
  std::optional<std::string> find_text(std::string_view key) const;
  const std::vector<std::string>* find_texts(std::string_view key) const;
  std::optional<std::vector<int32_t>> find_integers(std::string_view key) const;
  std::optional<std::vector<float>> find_floats(std::string_view key) const;

  // "block_count" -> "llama.block_count".
  std::string own(std::string_view key) const;
  // The count of a key of the architecture, which must be there and positive.
  int64_t count(std::string_view key) const;
  // The same where it may be missing.
  int64_t count(std::string_view key, int64_t otherwise) const;

  // The keys of the architecture that nobody has asked for.
  std::vector<std::string> unread() const;

 private:
  const GgufValue* find(std::string_view key) const;
  Error wrong(std::string_view key, std::string_view expected) const;

  const GgufFile& file_;
  std::string architecture_;
  mutable std::set<std::string, std::less<>> read_;
};

}  // namespace lewis
