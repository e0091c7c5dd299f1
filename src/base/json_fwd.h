// The name of Json without nlohmann's 24,000 lines, which cost a compiler more than two seconds per
// file that includes them. Headers include this file; sources that use a value include base/json.h.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

namespace lewis {

template <class Key, class T, class Less, class Allocator>
class JsonMap;  // base/json_map.h

// Keeps the order of keys, so that what is written is in the order in which it was built. A key is
// found in constant time.
using Json = nlohmann::basic_json<JsonMap>;
// Sorts keys and finds them in logarithmic time.
using SortedJson = nlohmann::json;

// A Json value behind a pointer, so that a struct in a header can have one as a member. It is
// copied like the value itself. An object that was moved from may only be assigned to.
class JsonBox {
 public:
  JsonBox();            // null
  JsonBox(Json value);  // not explicit, so that `box = {{"key", 1}}` works
  JsonBox(const JsonBox& other);
  JsonBox(JsonBox&& other) noexcept;
  JsonBox& operator=(const JsonBox& other);
  JsonBox& operator=(JsonBox&& other) noexcept;
  ~JsonBox();

  static JsonBox object();  // {}

  Json& operator*() { return *value_; }
  const Json& operator*() const { return *value_; }
  Json* operator->() { return value_.get(); }
  const Json* operator->() const { return value_.get(); }

 private:
  std::unique_ptr<Json> value_;
};

}  // namespace lewis
