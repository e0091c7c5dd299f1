// A second reader of safetensors headers, written from the format's description alone and for
// nothing but to be compared with: it shares no line with src/.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace lewis::plain {

struct Tensor {
  std::string dtype;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;  // in the data
  bool operator==(const Tensor&) const = default;
};
using Tensors = std::map<std::string, Tensor>;

// JSON by recursive descent. Everything that is not plain JSON throws.
class Parser {
 public:
  explicit Parser(const std::string& text) : s_(text) {}

  Tensors header() {
    Tensors tensors;
    std::map<std::string, std::string> metadata;
    bool has_metadata = false;
    object([&](const std::string& name) {
      if (name == "__metadata__") {
        need(!has_metadata);
        has_metadata = true;
        object([&](const std::string& key) { need(metadata.emplace(key, string()).second); });
      } else {
        need(tensors.emplace(name, tensor()).second);
      }
    });
    space();
    need(i_ == s_.size());
    return tensors;
  }

 private:
  static void need(bool holds) {
    if (!holds) throw std::runtime_error("not a safetensors header");
  }
  void space() {
    while (i_ < s_.size() && std::string(" \t\n\r").find(s_[i_]) != std::string::npos) ++i_;
  }
  bool take(char c) {
    space();
    const bool is = i_ < s_.size() && s_[i_] == c;
    i_ += is;
    return is;
  }

  template <typename F>
  void object(const F& member) {
    need(take('{'));
    if (take('}')) return;
    do {
      space();
      const std::string key = string();
      need(take(':'));
      member(key);
    } while (take(','));
    need(take('}'));
  }

  std::vector<uint64_t> numbers() {
    std::vector<uint64_t> all;
    need(take('['));
    if (take(']')) return all;
    do {
      all.push_back(number());
    } while (take(','));
    need(take(']'));
    return all;
  }

  uint64_t number() {
    space();
    const size_t first = i_;
    uint64_t value = 0;
    for (; i_ < s_.size() && s_[i_] >= '0' && s_[i_] <= '9'; ++i_) {
      const auto digit = static_cast<uint64_t>(s_[i_] - '0');
      need(value <= (UINT64_MAX - digit) / 10);
      value = value * 10 + digit;
    }
    need(i_ > first && (i_ == first + 1 || s_[first] != '0'));
    return value;
  }

  uint32_t hex4() {
    uint32_t value = 0;
    for (int k = 0; k < 4; ++k, ++i_) {
      need(i_ < s_.size());
      const size_t digit = std::string("0123456789abcdef0123456789ABCDEF").find(s_[i_]);
      need(digit != std::string::npos);
      value = value * 16 + static_cast<uint32_t>(digit % 16);
    }
    return value;
  }

  static void append(std::string& out, uint32_t c) {
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {
      const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
      out += static_cast<char>((0xf00 >> more & 0xff) | c >> 6 * more);
      for (int k = more - 1; k >= 0; --k) out += static_cast<char>(0x80 | (c >> 6 * k & 0x3f));
    }
  }

  // One UTF-8 character of more than one byte, as RFC 3629 has it.
  void copy_character(std::string& out) {
    const auto byte = [&](size_t k) {
      need(k < s_.size());
      return static_cast<uint32_t>(static_cast<unsigned char>(s_[k]));
    };
    const uint32_t lead = byte(i_);
    const int more = lead >> 5 == 6 ? 1 : lead >> 4 == 14 ? 2 : lead >> 3 == 30 ? 3 : 0;
    need(more > 0);
    uint32_t c = lead & (0x3fu >> more);
    for (int k = 1; k <= more; ++k) {
      need(byte(i_ + static_cast<size_t>(k)) >> 6 == 2);
      c = c << 6 | (byte(i_ + static_cast<size_t>(k)) & 0x3f);
    }
    const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    need(c >= least[more] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff));
    out.append(s_, i_, static_cast<size_t>(more) + 1);
    i_ += static_cast<size_t>(more) + 1;
  }

  std::string string() {
    std::string out;
    need(take('"'));
    for (;;) {
      need(i_ < s_.size());
      const char c = s_[i_];
      if (c == '"') return ++i_, out;
      need(static_cast<unsigned char>(c) >= 0x20);
      if (static_cast<unsigned char>(c) >= 0x80) {
        copy_character(out);
      } else if (c != '\\') {
        out += c;
        ++i_;
      } else {
        ++i_;
        escape(out);
      }
    }
  }

  void escape(std::string& out) {
    need(i_ < s_.size());
    const char c = s_[i_++];
    const size_t simple = std::string("\"\\/bfnrt").find(c);
    if (simple != std::string::npos) {
      out += "\"\\/\b\f\n\r\t"[simple];
      return;
    }
    need(c == 'u');
    uint32_t code = hex4();
    need(code < 0xdc00 || code > 0xdfff);
    if (code >= 0xd800 && code < 0xdc00) {
      need(i_ + 1 < s_.size() && s_[i_] == '\\' && s_[i_ + 1] == 'u');
      i_ += 2;
      const uint32_t low = hex4();
      need(low >= 0xdc00 && low <= 0xdfff);
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    append(out, code);
  }

  Tensor tensor() {
    Tensor t;
    int seen = 0;
    object([&](const std::string& key) {
      const int bit = key == "dtype" ? 1 : key == "shape" ? 2 : key == "data_offsets" ? 4 : 0;
      need(bit != 0 && (seen & bit) == 0);
      seen |= bit;
      if (bit == 1) t.dtype = string();
      if (bit == 2) t.shape = numbers();
      if (bit != 4) return;
      const auto offsets = numbers();
      need(offsets.size() == 2);
      t.begin = offsets[0];
      t.end = offsets[1];
    });
    need(seen == 7);
    return t;
  }

  const std::string& s_;
  size_t i_ = 0;
};

// Bits of an element by the format's table.
inline uint64_t bits_of(const std::string& dtype) {
  static const std::map<std::string, uint64_t> bits = {
      {"BOOL", 8},        {"U8", 8},         {"I8", 8},   {"F8_E4M3", 8}, {"F8_E5M2", 8},
      {"F8_E8M0", 8},     {"I16", 16},       {"U16", 16}, {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},       {"F32", 32}, {"I64", 64},    {"U64", 64},
      {"F64", 64},        {"C64", 64},       {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
      {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
  const auto found = bits.find(dtype);
  return found == bits.end() ? 0 : found->second;
}

__extension__ typedef unsigned __int128 Wide;

// The tensors of a file's bytes, or nothing where it is not a safetensors file.
inline std::optional<Tensors> read(const std::string& file) {
  if (file.size() < 8) return std::nullopt;
  uint64_t length = 0;
  for (int k = 7; k >= 0; --k)
    length = length << 8 | static_cast<unsigned char>(file[static_cast<size_t>(k)]);
  if (length > 100'000'000 || length > file.size() - 8) return std::nullopt;
  Tensors tensors;
  const std::string text = file.substr(8, length);
  try {
    tensors = Parser(text).header();
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
  std::multimap<std::pair<uint64_t, uint64_t>, int> places;
  for (const auto& [name, t] : tensors) {
    Wide bits = bits_of(t.dtype);
    bool empty = false;
    if (bits == 0) return std::nullopt;
    for (const uint64_t size : t.shape) {
      if (size > INT64_MAX) return std::nullopt;
      if (size == 0) empty = true;
      if (size != 0) bits *= size;
      if (bits >> 66 != 0) return std::nullopt;
    }
    if (empty) bits = 0;
    if (bits % 8 != 0 || t.end < t.begin || t.end - t.begin != static_cast<uint64_t>(bits / 8))
      return std::nullopt;
    places.emplace(std::pair(t.begin, t.end), 0);
  }
  uint64_t at = 0;
  for (const auto& [place, unused] : places) {
    if (place.first != at) return std::nullopt;
    at = place.second;
  }
  if (at != file.size() - 8 - length) return std::nullopt;
  return tensors;
}

}  // namespace lewis::plain
