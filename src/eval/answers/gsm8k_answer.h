// Finds the number in an answer of gsm8k, as lm-evaluation-harness does (tasks gsm8k and
// gsm8k_cot, version 3). The regular expressions of the task are matched by hand, in one pass:
// std::regex recurses once a character and would overflow the stack on long answers.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace lewis {

// Cuts at the first occurrence of each stop in turn; empty stops are ignored.
std::string cut_at_stops(std::string text, std::span<const std::string> stops);

// The group of the first match of `#### (\-?[0-9\.\,]+)`, else "[invalid]".
std::string extract_strict(std::string_view text);

// gsm8k_cot: the group of the first match of `The answer is (\-?[0-9\.\,]+).`, else "[invalid]".
std::string extract_chain(std::string_view text);

// The last match of `(-?[$0-9.,]{2,})|(-?[0-9]+)`, else "[invalid]".
std::string extract_flexible(std::string_view text);

// The form in which answers are compared: removes in order `,`, `\$`, `(?s).*#### ` and `\.$`, then
// lower-cases (ASCII).
std::string normalize_answer(std::string_view text);

}  // namespace lewis
