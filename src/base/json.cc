#include "base/json.h"

#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text_file.h"

namespace lewis {
namespace {

constexpr size_t kMaxDepth = 64;

// nlohmann keeps the last of two equal keys and has no depth limit: watch both while it parses.
class StrictCallback {
 public:
  template <typename AnyJson>
  bool operator()(int depth, Json::parse_event_t event, AnyJson& value) {
    if (static_cast<size_t>(depth) >= kMaxDepth) throw std::runtime_error("nested deeper than 64");
    if (event == Json::parse_event_t::object_start) {
      keys_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = value.template get_ref<const std::string&>();
      if (!keys_.back().insert(key).second) throw std::runtime_error("duplicate key '" + key + "'");
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

// nlohmann's messages begin with an identifier in brackets that says nothing to a person.
std::string without_tag(std::string message) {
  if (message.starts_with("[json.exception")) message.erase(0, message.find("] ") + 2);
  return message;
}

template <typename AnyJson>
AnyJson parse_strictly(std::string_view text, std::string_view where) {
  if (!is_utf8(text)) throw input_error("{}: not valid JSON: the text is not UTF-8", where);
  StrictCallback strict;
  try {
    return AnyJson::parse(text.begin(), text.end(), std::ref(strict));
  } catch (const std::exception& e) {
    throw input_error("{}: not valid JSON: {}", where, without_tag(e.what()));
  }
}

}  // namespace

JsonBox::JsonBox() : value_(std::make_unique<Json>()) {}
JsonBox::JsonBox(Json value) : value_(std::make_unique<Json>(std::move(value))) {}
JsonBox::JsonBox(const JsonBox& other) : value_(std::make_unique<Json>(*other.value_)) {}
JsonBox::JsonBox(JsonBox&& other) noexcept = default;
JsonBox& JsonBox::operator=(const JsonBox& other) {
  value_ = std::make_unique<Json>(*other.value_);
  return *this;
}
JsonBox& JsonBox::operator=(JsonBox&& other) noexcept = default;
JsonBox::~JsonBox() = default;
JsonBox JsonBox::object() { return JsonBox(Json::object()); }

Json parse_json(std::string_view text, std::string_view where) {
  return parse_strictly<Json>(text, where);
}

SortedJson parse_sorted_json(std::string_view text, std::string_view where) {
  return parse_strictly<SortedJson>(text, where);
}

Json read_json(const std::filesystem::path& file) {
  return parse_json(read_text_file(file), file.string());
}

}  // namespace lewis
