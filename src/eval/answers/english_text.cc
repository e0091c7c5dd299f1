#include "eval/answers/english_text.h"

#include <algorithm>
#include <array>
#include <vector>

#include "text/regex.h"

namespace lewis {

std::string_view strip(std::string_view text) {
  static const Regex kInner(R"((?s)\A\s*(.*?)\s*\z)");
  return *kInner.find_all(text).at(0).at(1);
}

bool is_upper(std::string_view text) {
  static const Regex kUpper(R"(\p{Uppercase})"), kOther(R"([\p{Lowercase}\p{Lt}])");
  return kUpper.found_in(text) && !kOther.found_in(text);
}

bool is_lower(std::string_view text) {
  static const Regex kLower(R"(\p{Lowercase})"), kOther(R"([\p{Uppercase}\p{Lt}])");
  return kLower.found_in(text) && !kOther.found_in(text);
}

std::string ascii_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

size_t count_words(std::string_view text) {
  static const Regex kWord(R"(\w+)");
  return kWord.find_all(text).size();
}

namespace {

// Words that a period belongs to.
constexpr std::array kAbbreviations = {
    "a.m",  "adm",  "al",   "apr",    "approx", "assn", "assoc", "aug",  "ave",  "b.c", "bldg",
    "blvd", "bros", "c.f",  "capt",   "cf",     "co",   "col",   "corp", "cpl",  "d.c", "dec",
    "dept", "dist", "div",  "dr",     "e.g",    "ed",   "est",   "etc",  "feb",  "fig", "fri",
    "ft",   "gen",  "gov",  "hon",    "i.e",    "inc",  "jan",   "jr",   "jul",  "jun", "lt",
    "ltd",  "maj",  "mar",  "messrs", "mr",     "mrs",  "ms",    "mt",   "nos",  "nov", "oct",
    "p.m",  "ph.d", "pres", "prof",   "rep",    "rev",  "sen",   "sep",  "sept", "sgt", "sr",
    "st",   "ste",  "tues", "u.k",    "u.n",    "u.s",  "univ",  "viz",  "vol",  "vs",  "wed"};
// Words that begin a sentence where they have a capital behind an abbreviation.
constexpr std::array kStarters = {
    "a",      "after", "all",   "also",     "although", "an",    "and",   "another", "as",
    "at",     "both",  "but",   "by",       "each",     "even",  "few",   "for",     "from",
    "he",     "her",   "his",   "how",      "however",  "i",     "if",    "in",      "instead",
    "it",     "its",   "many",  "moreover", "most",     "my",    "no",    "not",     "of",
    "on",     "one",   "our",   "several",  "she",      "since", "so",    "some",    "such",
    "that",   "the",   "their", "then",     "there",    "these", "they",  "this",    "those",
    "though", "to",    "under", "we",       "what",     "when",  "where", "while",   "who",
    "why",    "with",  "you",   "your"};

template <typename Words>
bool is_among(std::string_view word, const Words& words) {
  return std::ranges::find(words, word) != words.end();
}

bool is_end(char c) { return c == '.' || c == '?' || c == '!'; }
bool is_closing(char c) { return std::string_view("\"')]}").find(c) != std::string_view::npos; }
// Signs that may follow the end of a sentence without a space.
bool is_apart(char c) {
  return std::string_view(")\";}]*:@'({[!?").find(c) != std::string_view::npos;
}

// The word at the end of a token, without what opens before it: "(word." -> "word.".
std::string_view last_word(std::string_view token) {
  const size_t at = token.find_last_of("(\"`{[:;&#*@)}],");
  return at == std::string_view::npos ? token : token.substr(at + 1);
}

// True if a period at the end of `token` ends a sentence before `next`.
bool period_ends(std::string_view token, std::string_view next) {
  static const Regex kNumber(R"(\A-?[.,]?\d[\d,.-]*\.?\z)"), kInitial(R"(\A\pL\.\z)");
  static const Regex kCapital(R"(\A\W*\p{Lu})"), kSmall(R"(\A\W*\p{Ll})"), kSign(R"(\A[^\w\s])");
  const std::string_view word = last_word(token);
  const std::string bare = ascii_lower(word.substr(0, word.size() - 1));
  const std::string follower(ascii_lower(strip(next)));
  const bool starter = kCapital.found_in(next) &&
                       is_among(follower.substr(0, follower.find_first_of(" ,'")), kStarters);
  if (kInitial.found_in(word))
    return starter || (!kCapital.found_in(next) && !kSmall.found_in(next));
  if (kNumber.found_in(word)) return !kSmall.found_in(next) && !kSign.found_in(next);
  const size_t hyphen = bare.rfind('-');
  const bool abbreviation = is_among(bare, kAbbreviations) ||
                            (hyphen != std::string::npos &&
                             is_among(std::string_view(bare).substr(hyphen + 1), kAbbreviations));
  return abbreviation ? starter : !word.ends_with("..") || starter;
}

// Where a sentence may end within a token: behind the last such sign. 0: nowhere.
size_t end_in(std::string_view token, bool last) {
  for (size_t i = token.size(); i > 0; --i) {
    if (!is_end(token[i - 1])) continue;
    if (i < token.size() ? is_apart(token[i]) : !last) return i;
  }
  return 0;
}

}  // namespace

size_t count_sentences(std::string_view text) {
  static const Regex kToken(R"(\S+)");
  const std::vector<Regex::Match> tokens = kToken.find_all(text);
  size_t sentences = tokens.empty() ? 0 : 1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = *tokens[i][0];
    const bool last = i + 1 == tokens.size();
    const size_t end = end_in(token, last);
    if (end == 0) continue;
    const std::string_view rest = token.substr(end);
    const std::string_view next = !rest.empty() ? rest : *tokens[i + 1][0];
    if (token[end - 1] == '.' && !period_ends(token.substr(0, end), next)) continue;
    // A token that only closes belongs to the sentence before.
    if (last && std::ranges::all_of(rest, is_closing)) continue;
    ++sentences;
  }
  return sentences;
}

size_t count_capital_words(std::string_view text) {
  static const Regex kToken(R"(\S+)"), kParts(R"(\.{3}|--|[;@#$%&?!\[\](){}<>"“”«»„]|[,:])");
  static const Regex kShort(R"((?i)(.)(?:'s|'m|'d|'ll|'re|'ve)\z)"), kNot(R"((?i).n't\z)");
  static const Regex kJoined(R"((?i)\A(?:cannot|gimme|gonna|gotta|lemme|wanna)\z)");
  size_t count = 0;
  for (const Regex::Match& token : kToken.find_all(text)) {
    for (const std::string_view part : kParts.split(*token[0])) {
      if (!is_upper(part)) continue;
      const bool two = kShort.found_in(part) || kNot.found_in(part) || kJoined.found_in(part);
      count += two ? 2 : 1;
    }
  }
  return count;
}

}  // namespace lewis
