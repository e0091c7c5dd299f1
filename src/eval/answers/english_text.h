// Counts of English text, after NLTK's rules.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// Text without white space at its ends (as Unicode has it).
std::string_view strip(std::string_view text);

// At least one letter with case, and all of those upper (lower) case.
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);

// A to Z only.
std::string ascii_lower(std::string_view text);

// Runs of letters, digits and underscores.
size_t count_words(std::string_view text);

// Sentences, by the rules of Punkt (Kiss and Strunk, "Unsupervised Multilingual Sentence Boundary
// Detection", 2006) with a list of common abbreviations instead of a trained model.
size_t count_sentences(std::string_view text);

// Tokens of the Penn Treebank's rules that are all upper case: IT'S are two, WELL-KNOWN is one.
size_t count_capital_words(std::string_view text);

}  // namespace lewis
