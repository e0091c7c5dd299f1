#include "app/gguf/general/model_id.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

namespace lewis {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_lower(c) || is_upper(c); }
char lower(char c) { return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c; }
char upper(char c) { return is_lower(c) ? static_cast<char>(c - 'a' + 'A') : c; }

std::string lowered(std::string_view text) {
  std::string low(text);
  std::ranges::transform(low, low.begin(), lower);
  return low;
}

std::string uppered(std::string_view text) {
  std::string up(text);
  std::ranges::transform(up, up.begin(), upper);
  return up;
}

// Takes digits from the front; false where there are none.
bool take_digits(std::string_view& text) {
  const size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  text.remove_prefix(end);
  return end > 0;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

// "3", "v0.1", "iter5".
bool is_version(std::string_view low) {
  if (!take(low, "v")) take(low, "iter");
  if (!take_digits(low)) return false;
  while (take(low, ".")) {
    if (!take_digits(low)) return false;
  }
  return low.empty();
}

// "f16", "bf16", "fp32", "q8_0", "iq4_xs" of one letter each.
bool is_type(std::string_view low) {
  std::string_view quantized = low;
  take(quantized, "i");
  if (take(quantized, "q") && !quantized.empty() && is_digit(quantized[0])) {
    quantized.remove_prefix(1);
    while (quantized.size() >= 2 && quantized[0] == '_') quantized.remove_prefix(2);
    if (quantized.empty()) return true;
  }
  take(low, "b");
  if (!take(low, "f")) return false;
  take(low, "p");
  return low == "16" || low == "32";
}

// "8B", "1.5b", "8x7B", "A3B", "7b1", and sizes in words.
bool is_size(std::string_view low) {
  constexpr std::array<std::string_view, 6> kWords = {"small", "mini", "medium",
                                                      "large", "xl",   "xxl"};
  if (std::ranges::find(kWords, low) != kWords.end()) return true;
  const auto number_and_unit = [](std::string_view rest) {
    if (!take_digits(rest)) return false;
    if (!rest.empty() && (rest[0] == '.' || rest[0] == '_')) {
      rest.remove_prefix(1);
      if (!take_digits(rest)) return false;
    }
    if (rest.empty() || std::string_view("kmbt").find(rest[0]) == rest.npos) return false;
    rest.remove_prefix(1);
    return rest.empty() || (rest.size() == 1 && is_digit(rest[0]));
  };
  if (number_and_unit(low)) return true;
  std::string_view rest = low;
  if (take(rest, "a")) return number_and_unit(rest);
  return take_digits(rest) && take(rest, "x") && number_and_unit(rest);
}

struct Word {
  std::string text;
  bool basename = false, size = false, finetune = false, version = false, type = false;
  bool is_plain() const { return !basename && !size && !finetune && !version && !type; }
};

// The parameters that a size stands for; nothing for one in words.
std::optional<double> parameters_of(std::string_view size) {
  double number = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size() - 1, number);
  const size_t unit = std::string_view(" KMBT").find(size.back());
  if (error != std::errc() || end != size.data() + size.size() - 1 || unit == std::string::npos)
    return std::nullopt;
  return number * std::pow(1000.0, static_cast<double>(unit));
}

void read_size(Word& word, uint64_t parameters) {
  std::string& text = word.text;
  std::ranges::replace(text, '_', '.');
  const size_t n = text.size();
  if (is_digit(text.back()))  // "7b1" is 7.1B
    text = text.substr(0, n - 2) + "." + text[n - 1] + text[n - 2];
  if (n > 1 && is_digit(text[text.size() - 2])) text.back() = upper(text.back());
  const auto meant = parameters > 0 ? parameters_of(text) : std::nullopt;
  const auto all = static_cast<double>(parameters);
  if (meant && std::abs(*meant - all) > std::floor(7 * all / 8)) {  // the length of a context
    word.finetune = true;
    text.back() = lower(text.back());
    return;
  }
  word.size = true;
}

std::vector<Word> words_of(std::string_view name, uint64_t parameters) {
  constexpr std::array<std::string_view, 4> kTunes = {"chat", "instruct", "vision", "lora"};
  std::vector<Word> words;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('-', begin), name.size());
    if (end > begin) words.push_back({std::string(name.substr(begin, end - begin))});
    begin = end + 1;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    Word& word = words[i];
    const std::string low = lowered(word.text);
    if (is_version(low)) {
      word.version = true;
    } else if (is_type(low)) {
      word.type = true;
      word.text = uppered(word.text);
    } else if (i > 0 && is_size(low)) {
      read_size(word, parameters);
    } else if (i > 0 && std::ranges::find(kTunes, low) != kTunes.end()) {
      word.finetune = true;
    }
  }
  return words;
}

// Sizes in words do not count beside one in numbers; what comes first is the base.
void settle(std::vector<Word>& words) {
  const auto has_digit = [](const Word& w) { return std::ranges::any_of(w.text, is_digit); };
  if (std::ranges::any_of(words, [&](const Word& w) { return w.size && has_digit(w); })) {
    for (Word& word : words) word.size = word.size && !std::ranges::all_of(word.text, is_letter);
  }
  bool at_start = true;
  for (Word& word : words) {
    if (at_start && ((word.is_plain() && is_letter(word.text[0])) || word.version)) {
      word.basename = true;
    } else {
      at_start = false;
      if (word.is_plain()) word.finetune = true;
    }
  }
  for (auto word = words.rbegin(); word != words.rend() && word->basename && word->version; ++word)
    word->basename = false;
}

std::string joined(const std::vector<Word>& words, bool (*counts)(const Word&), bool once) {
  std::vector<std::string> texts;
  for (const Word& word : words) {
    if (!counts(word)) continue;
    if (!once || std::ranges::find(texts, word.text) == texts.end()) texts.push_back(word.text);
  }
  return fmt::format("{}", fmt::join(texts, "-"));
}

}  // namespace

ModelIdParts parts_of_id(std::string_view id, uint64_t parameters) {
  constexpr size_t kLongest = 200;
  ModelIdParts parts;
  if (id.size() > kLongest || id.find(' ') != id.npos) {
    parts.name = id;
    return parts;
  }
  const size_t slash = id.find('/');
  parts.name = slash == id.npos ? id : id.substr(slash + 1);
  if (slash != id.npos && id[0] != '.') parts.organization = id.substr(0, slash);
  std::vector<Word> words = words_of(parts.name, parameters);
  settle(words);
  parts.basename = joined(
      words, [](const Word& w) { return w.basename; }, false);
  parts.size_label = joined(
      words, [](const Word& w) { return w.size; }, true);
  parts.finetune = joined(
      words, [](const Word& w) { return w.finetune; }, false);
  parts.version = joined(
      words, [](const Word& w) { return w.version && !w.basename; }, false);
  if (parts.size_label.empty() && parts.finetune.empty() && parts.version.empty())
    parts.basename.clear();
  return parts;
}

std::string title_of(std::string_view name) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find_first_of("- \t", begin), name.size());
    std::string word(name.substr(begin, end - begin));
    begin = end + 1;
    if (word.empty()) continue;
    const bool in_lower =
        std::ranges::any_of(word, is_lower) && std::ranges::none_of(word, is_upper);
    const bool is_number = is_digit(word[0]) || (word[0] == 'v' && is_version(word));
    if (in_lower && !is_number) {
      bool begins = true;  // of letters
      for (char& c : word) {
        if (begins) c = upper(c);
        begins = !is_letter(c);
      }
    }
    words.push_back(std::move(word));
  }
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace lewis
