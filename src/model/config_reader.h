// Typed access to the keys of a config.json, with errors that name file, key and value.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace lewis {

class ConfigReader {
 public:
  // `path` stands before keys in messages: "rope_scaling." for a nested object.
  ConfigReader(const Json& object, std::string_view file, std::string path = {})
      : object_(object), file_(file), path_(std::move(path)) {}

  // The value, or null when the key is missing or null.
  const Json* find(std::string_view key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  // A positive integer below 2^31. Without a fallback the key must be there.
  int64_t size(std::string_view key, std::optional<int64_t> fallback = {}) const;
  // A finite number greater than zero.
  double positive(std::string_view key, std::optional<double> fallback = {}) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  // The object under `key`, or nothing.
  std::optional<ConfigReader> object(std::string_view key) const;

  const Json& json() const { return object_; }
  std::string_view file() const { return file_; }
  Error refuse(std::string_view key, std::string_view expected) const;

 private:
  const Json* get(std::string_view key, bool required) const;

  const Json& object_;
  std::string_view file_;
  std::string path_;
};

}  // namespace lewis
