#include "app/gguf/keys.h"

#include <cstring>
#include <limits>

#include "base/error.h"

namespace lewis {
namespace {

constexpr uint32_t kInt32 = 5, kFloat32 = 6, kText = 8;  // places in GgufValue

template <typename T>
std::vector<T> numbers_of(const GgufArray& array) {
  std::vector<T> values(array.numbers.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), array.numbers.data(), array.numbers.size());
  return values;
}

}  // namespace

GgufKeys::GgufKeys(const GgufFile& file) : file_(file) {
  const auto name = find_text("general.architecture");
  if (!name) {
    throw input_error("{}: key 'general.architecture' is missing: it is no model", where());
  }
  architecture_ = *name;
}

const GgufValue* GgufKeys::find(std::string_view key) const {
  read_.emplace(key);
  const auto found = file_.metadata().find(std::string(key));
  return found == file_.metadata().end() ? nullptr : &found->second;
}

Error GgufKeys::wrong(std::string_view key, std::string_view expected) const {
  return input_error("{}: key '{}' is of another type or value, expected {}", where(), key,
                     expected);
}

std::optional<int64_t> GgufKeys::find_count(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  return std::visit(
      [&](const auto& v) -> int64_t {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
          if (std::in_range<int32_t>(v) && v >= 0) return static_cast<int64_t>(v);
        }
        throw wrong(key, "a whole number in [0, 2^31)");
      },
      *value);
}

std::optional<float> GgufKeys::find_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* v = std::get_if<float>(value)) return *v;
  if (const auto* v = std::get_if<double>(value)) return static_cast<float>(*v);
  throw wrong(key, "a float");
}

std::optional<bool> GgufKeys::find_flag(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* v = std::get_if<bool>(value)) return *v;
  throw wrong(key, "true or false");
}

std::optional<std::string> GgufKeys::find_text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* v = std::get_if<std::string>(value)) return *v;
  throw wrong(key, "a text");
}

const std::vector<std::string>* GgufKeys::find_texts(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return nullptr;
  const auto* array = std::get_if<GgufArray>(value);
  if (!array || array->type != kText) throw wrong(key, "an array of texts");
  return &array->texts;
}

std::optional<std::vector<int32_t>> GgufKeys::find_integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  const auto* array = std::get_if<GgufArray>(value);
  if (!array || array->type != kInt32) throw wrong(key, "an array of int32");
  return numbers_of<int32_t>(*array);
}

std::optional<std::vector<float>> GgufKeys::find_floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  const auto* array = std::get_if<GgufArray>(value);
  if (!array || array->type != kFloat32) throw wrong(key, "an array of float32");
  return numbers_of<float>(*array);
}

std::string GgufKeys::own(std::string_view key) const {
  return fmt::format("{}.{}", architecture_, key);
}

int64_t GgufKeys::count(std::string_view key) const {
  const auto value = find_count(own(key));
  if (!value) throw input_error("{}: key '{}' is missing", where(), own(key));
  if (*value == 0) throw wrong(own(key), "a positive number");
  return *value;
}

int64_t GgufKeys::count(std::string_view key, int64_t otherwise) const {
  return find_count(own(key)) ? count(key) : otherwise;
}

std::vector<std::string> GgufKeys::unread() const {
  std::vector<std::string> keys;
  for (const auto& [key, _] : file_.metadata()) {
    if (key.starts_with(architecture_ + ".") && !read_.contains(key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace lewis
