#include "base/natural_order.h"

#include <cstddef>

namespace lewis {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes the run of digits that begins at `at`, without its leading zeros.
std::string_view take_number(std::string_view text, size_t& at) {
  while (at < text.size() && text[at] == '0') ++at;
  const size_t begin = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  return text.substr(begin, at - begin);
}

}  // namespace

bool comes_before(std::string_view a, std::string_view b) {
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      const std::string_view x = take_number(a, i), y = take_number(b, j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i, ++j;
    }
    if (i == a.size() || j == b.size()) {
      const size_t left = a.size() - i, right = b.size() - j;
      if (left != right) return left < right;
    }
  }
  return a < b;
}

}  // namespace lewis
