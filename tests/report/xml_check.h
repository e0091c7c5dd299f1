// A small XML reader that accepts only the SVG that a report may contain.
#pragma once

#include <cctype>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

struct XmlElement {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;  // of its own, unescaped
};

class XmlCheck {
 public:
  // All elements in document order. Throws std::runtime_error that says what is not well-formed.
  static std::vector<XmlElement> elements(std::string_view text) {
    XmlCheck check(text);
    check.element();
    check.blanks();
    check.require(check.rest_.empty(), "something behind the last element");
    return check.elements_;
  }

 private:
  explicit XmlCheck(std::string_view text) : rest_(text) {}

  void require(bool good, const std::string& what) const {
    if (!good) throw std::runtime_error(what + " before: " + std::string(rest_.substr(0, 60)));
  }
  bool take(std::string_view start) {
    if (!rest_.starts_with(start)) return false;
    rest_.remove_prefix(start.size());
    return true;
  }
  void blanks() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_[0])))
      rest_.remove_prefix(1);
  }
  std::string name() {
    size_t n = 0;
    while (n < rest_.size() && (std::isalnum(static_cast<unsigned char>(rest_[n])) ||
                                rest_[n] == '-' || rest_[n] == ':'))
      ++n;
    require(n > 0, "no name");
    std::string found(rest_.substr(0, n));
    rest_.remove_prefix(n);
    return found;
  }
  // Up to `end`; no '<' in it, every '&' a known entity.
  std::string characters(char end) {
    std::string text;
    while (!rest_.empty() && rest_[0] != end) {
      require(rest_[0] != '<', "a bare <");
      if (rest_[0] != '&') {
        text += rest_[0];
        rest_.remove_prefix(1);
        continue;
      }
      const bool known = take("&amp;")    ? (text += '&', true)
                         : take("&lt;")   ? (text += '<', true)
                         : take("&gt;")   ? (text += '>', true)
                         : take("&quot;") ? (text += '"', true)
                         : take("&#39;")  ? (text += '\'', true)
                                          : false;
      require(known, "a bare &");
    }
    require(!rest_.empty(), "an open end");
    return text;
  }
  void element() {
    require(take("<"), "no element");
    const size_t own = elements_.size();
    elements_.push_back({name(), {}, ""});
    for (blanks(); !rest_.starts_with(">") && !rest_.starts_with("/>"); blanks()) {
      const std::string key = name();
      require(take("=\""), "no value");
      const std::string value = characters('"');
      require(take("\""), "no end of a value");
      require(elements_[own].attributes.emplace(key, value).second, "an attribute twice");
    }
    if (take("/>")) return;
    take(">");
    while (!rest_.starts_with("</")) {
      require(!rest_.empty(), "an element without an end");
      if (rest_[0] == '<') {
        element();
      } else {
        elements_[own].text += characters('<');
      }
    }
    take("</");
    require(name() == elements_[own].name, "another element's end");
    require(take(">"), "no end of a tag");
  }

  std::string_view rest_;
  std::vector<XmlElement> elements_;
};

}  // namespace lewis
