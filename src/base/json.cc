#include "base/json.h"

#include <xxhash.h>

#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text_file.h"

namespace lewis {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxValues = 4'000'000;
// Keys cost several times what values of a list do. The largest vocabularies have a million.
constexpr size_t kMaxKeys = 1'500'000;

// Builds a value from the events of nlohmann's parser. nlohmann itself keeps the last of two equal
// keys, has no limits, and with a callback goes through all members at the end of each.
template <typename AnyJson>
class StrictBuilder {
 public:
  // `take`: null, or with `streamed` as in parse_json_members.
  StrictBuilder(std::string_view streamed, const TakeMember* take)
      : streamed_(streamed), take_(take) {}
  StrictBuilder(const StrictBuilder&) = delete;
  StrictBuilder& operator=(const StrictBuilder&) = delete;

  AnyJson result() { return std::move(root_); }

  bool null() { return scalar(AnyJson(nullptr)); }
  bool boolean(bool value) { return scalar(AnyJson(value)); }
  bool number_integer(typename AnyJson::number_integer_t value) { return scalar(AnyJson(value)); }
  bool number_unsigned(typename AnyJson::number_unsigned_t value) { return scalar(AnyJson(value)); }
  bool number_float(typename AnyJson::number_float_t value, const std::string&) {
    return scalar(AnyJson(value));
  }
  bool string(std::string& value) { return scalar(AnyJson(std::move(value))); }
  bool binary(typename AnyJson::binary_t&) { return false; }  // JSON has none
  bool start_object(size_t) { return begin(AnyJson::object()); }
  bool start_array(size_t) { return begin(AnyJson::array()); }
  bool end_object() { return end(); }
  bool end_array() { return end(); }

  bool key(std::string& key) {
    if (open_.size() == stream_depth_) {
      member_key_ = std::move(key);
      values_ = keys_ = 0;
      place_ = &member_;
      return true;
    }
    if (++keys_ > kMaxKeys) throw std::runtime_error(fmt::format("more than {} keys", kMaxKeys));
    if (take_ && open_.size() == 1) in_streamed_ = key == streamed_;
    auto& object = open_.back()->template get_ref<typename AnyJson::object_t&>();
    const auto [place, is_new] = object.emplace(std::move(key), AnyJson());
    if (!is_new) throw std::runtime_error("duplicate key '" + place->first + "'");
    place_ = &place->second;
    return true;
  }

  template <typename Exception>
  bool parse_error(size_t, const std::string&, const Exception& error) {
    throw std::runtime_error(error.what());
  }

 private:
  AnyJson* put(AnyJson value) {
    if (++values_ > kMaxValues)
      throw std::runtime_error(fmt::format("more than {} values", kMaxValues));
    if (!open_.empty() && open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *place_ = std::move(value);
    return place_;
  }

  bool scalar(AnyJson value) {
    put(std::move(value));
    complete();
    return true;
  }

  bool begin(AnyJson value) {
    if (open_.size() >= kMaxDepth) throw std::runtime_error("nested deeper than 64");
    open_.push_back(put(std::move(value)));
    const bool is_streamed =
        take_ && open_.back()->is_object() &&
        (streamed_.empty() ? open_.size() == 1 : open_.size() == 2 && in_streamed_);
    if (is_streamed) stream_depth_ = open_.size();
    return true;
  }

  bool end() {
    if (open_.size() == stream_depth_) stream_depth_ = kNowhere;
    open_.pop_back();
    complete();
    return true;
  }

  // A value is complete: one that is streamed is given away.
  void complete() {
    if (open_.size() != stream_depth_) return;
    if constexpr (std::is_same_v<AnyJson, Json>) (*take_)(member_key_, member_);
    member_ = AnyJson();
  }

  static constexpr size_t kNowhere = SIZE_MAX;

  AnyJson root_, member_;
  std::vector<AnyJson*> open_;  // the containers around the next value, outermost first
  AnyJson* place_ = &root_;     // of the next value, unless it is an element of an array
  size_t values_ = 0, keys_ = 0;
  std::string_view streamed_;
  const TakeMember* take_;
  bool in_streamed_ = false;
  size_t stream_depth_ = kNowhere;  // number of open containers within which members are streamed
  std::string member_key_;
};

// nlohmann's messages begin with an identifier in brackets that says nothing to a person, and quote
// the whole last token.
std::string short_message(std::string message) {
  constexpr size_t kLongest = 300;
  if (message.starts_with("[json.exception")) message.erase(0, message.find("] ") + 2);
  if (message.size() <= kLongest) return message;
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0u) == 0x80u) --end;
  return message.substr(0, end) + "...";
}

void check_text(std::string_view text, std::string_view where) {
  if (text.starts_with("\xef\xbb\xbf")) {
    throw input_error("{}: not valid JSON: it begins with a byte order mark; save it without one",
                      where);
  }
  if (!is_utf8(text)) throw input_error("{}: not valid JSON: the text is not UTF-8", where);
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    throw input_error("{}: not valid JSON: byte {} is NUL", where, nul);
}

// The commas outside of strings: there is at most one value more per container. Counting them is
// far quicker than making values of a text that holds too many.
size_t count_commas(std::string_view text) {
  size_t commas = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') in_string = !in_string;
    if (c == '\\' && in_string) ++i;
    commas += c == ',' && !in_string;
  }
  return commas;
}

template <typename AnyJson>
AnyJson parse_strictly(std::string_view text, std::string_view where,
                       std::string_view streamed = {}, const TakeMember* take = nullptr) {
  check_text(text, where);
  if (!take && text.size() > 2 * kMaxValues && count_commas(text) > kMaxValues)
    throw input_error("{}: not valid JSON: more than {} values", where, kMaxValues);
  StrictBuilder<AnyJson> builder(streamed, take);
  try {
    AnyJson::sax_parse(text.begin(), text.end(), &builder);
  } catch (const Error&) {
    throw;  // of whoever takes the members
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    throw input_error("{}: not valid JSON: {}", where, short_message(e.what()));
  }
  return builder.result();
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

uint64_t json_key_hash(std::string_view key) {
  static const uint64_t seed = std::random_device()();
  return XXH3_64bits_withSeed(key.data(), key.size(), seed);
}

Json parse_json(std::string_view text, std::string_view where) {
  return parse_strictly<Json>(text, where);
}

Json parse_json_members(std::string_view text, std::string_view where, std::string_view key,
                        const TakeMember& take) {
  return parse_strictly<Json>(text, where, key, &take);
}

SortedJson parse_sorted_json(std::string_view text, std::string_view where) {
  return parse_strictly<SortedJson>(text, where);
}

Json read_json(const std::filesystem::path& file) {
  return parse_json(read_text_file(file), file.string());
}

}  // namespace lewis
