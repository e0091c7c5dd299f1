// Errors of the command line, in words that say what to type instead.
#pragma once

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace lewis {

// The Error(kUsage) of what CLI11 could not parse: an unknown verb or option with the nearest one,
// an option of another verb, an argument too many, or CLI11's own words.
Error usage_error_of(const CLI::App& app, const CLI::ParseError& error);

}  // namespace lewis
