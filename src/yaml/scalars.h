// The meaning of scalars without quotes. YAML 1.1 (which mergekit's PyYAML reads) and YAML 1.2 read
// some of them differently; those are refused wherever the difference matters (yaml/reader.h).
#pragma once

#include <optional>
#include <string_view>

namespace lewis {

// "", "~", "null", "Null", "NULL".
bool is_null_word(std::string_view plain);
// "true" and "false", also "True" and "TRUE"; nullopt for all else.
std::optional<bool> boolean_word(std::string_view plain);
// [+-] digits [. digits] [e [+-] digits], with at least one digit before the exponent. Whole
// numbers with leading zeros, which YAML 1.1 reads as octal, are none.
bool is_decimal(std::string_view text);
// Why YAML 1.1 and YAML 1.2 disagree on a scalar without quotes, as what follows it in a sentence:
// "is a boolean in YAML 1.1 and a text in YAML 1.2". Empty where they agree.
std::string_view yaml_disagreement(std::string_view plain);

}  // namespace lewis
