#include "model/config_reader.h"

#include <cmath>

#include "base/json.h"

namespace lewis {

Error ConfigReader::refuse(std::string_view key, std::string_view expected) const {
  const auto it = object_.find(key);
  std::string found = it == object_.end() ? "missing" : it->dump();
  if (found.size() > 60) found = found.substr(0, 57) + "...";
  return input_error("{}: key '{}{}' is {}, expected {}", file_, path_, key, found, expected);
}

const Json* ConfigReader::find(std::string_view key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

const Json* ConfigReader::get(std::string_view key, bool required) const {
  const Json* value = find(key);
  if (!value && required) throw refuse(key, "a value: nothing can be assumed for it");
  return value;
}

int64_t ConfigReader::size(std::string_view key, std::optional<int64_t> fallback) const {
  const Json* value = get(key, !fallback);
  if (!value) return *fallback;
  if (value->is_number_integer()) {
    const auto n = value->get<int64_t>();
    if (n > 0 && n < int64_t{1} << 31) return n;
  }
  throw refuse(key, "a positive integer below 2^31");
}

int64_t ConfigReader::parts(std::string_view key) const {
  constexpr int64_t kMost = 10'000;  // no model has as many layers or experts
  const int64_t n = size(key);
  if (n > kMost) throw refuse(key, fmt::format("a positive integer up to {}", kMost));
  return n;
}

int64_t ConfigReader::count(std::string_view key) const {
  const Json* value = get(key, true);
  if (value->is_number_integer() && *value == 0) return 0;
  return size(key);
}

double ConfigReader::positive(std::string_view key, std::optional<double> fallback) const {
  const Json* value = get(key, !fallback);
  if (!value) return *fallback;
  if (value->is_number()) {
    const auto x = value->get<double>();
    if (x > 0 && std::isfinite(x)) return x;
  }
  throw refuse(key, "a number greater than 0");
}

double ConfigReader::number(std::string_view key) const {
  const Json* value = get(key, true);
  if (value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
  throw refuse(key, "a number");
}

bool ConfigReader::boolean(std::string_view key, bool fallback) const {
  const Json* value = get(key, false);
  if (!value) return fallback;
  if (!value->is_boolean()) throw refuse(key, "true or false");
  return value->get<bool>();
}

std::string ConfigReader::text(std::string_view key, std::string_view fallback) const {
  const Json* value = get(key, false);
  if (!value) return std::string(fallback);
  if (!value->is_string()) throw refuse(key, "a string");
  return value->get<std::string>();
}

std::vector<double> ConfigReader::numbers(std::string_view key) const {
  std::vector<double> result;
  const Json* value = get(key, true);
  if (!value->is_array()) throw refuse(key, "a list of numbers");
  for (const Json& item : *value) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) {
      throw refuse(key, "a list of numbers");
    }
    result.push_back(item.get<double>());
  }
  return result;
}

std::vector<int64_t> ConfigReader::indices(std::string_view key) const {
  std::vector<int64_t> result;
  if (!find(key)) return result;
  for (const double x : numbers(key)) {
    if (!(x >= 0 && x < 2147483648.0 && x == std::floor(x))) {
      throw refuse(key, "a list of non-negative integers");
    }
    result.push_back(static_cast<int64_t>(x));
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(std::string_view key) const {
  const Json* value = get(key, false);
  if (!value) return std::nullopt;
  if (!value->is_object()) throw refuse(key, "an object");
  return ConfigReader(*value, file_, path_ + std::string(key) + ".");
}

}  // namespace lewis
