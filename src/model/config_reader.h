// Typed access to the keys of a config.json, with errors that name file, key and value.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"

namespace lewis {

class ConfigReader {
 public:
  // `path` stands before keys in messages: "rope_scaling." for a nested object.
  ConfigReader(const Json& object, std::string_view file, std::string path = {})
      : object_(object), file_(file), path_(std::move(path)) {}

  // The value, or null when the key is missing or null.
  const Json* find(std::string_view key) const;
  // A positive integer below 2^31. Without a fallback the key must be there.
  int64_t size(std::string_view key, std::optional<int64_t> fallback = {}) const;
  // The same of at most 10,000: a number of parts, for each of which something is kept before any
  // tensor is looked at.
  int64_t parts(std::string_view key) const;
  // A finite number greater than zero.
  double positive(std::string_view key, std::optional<double> fallback = {}) const;
  // Any finite number. The key must be there.
  double number(std::string_view key) const;
  // As positive(); `fallback`, which may be any number, when the key is not there.
  double positive_or(std::string_view key, double fallback) const {
    return find(key) ? positive(key) : fallback;
  }
  // A non-negative integer below 2^31. The key must be there.
  int64_t count(std::string_view key) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  // A list of finite numbers. The key must be there.
  std::vector<double> numbers(std::string_view key) const;
  // A list of non-negative integers below 2^31; an empty one when the key is not there.
  std::vector<int64_t> indices(std::string_view key) const;
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
