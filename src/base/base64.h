// Bytes as base64 (RFC 4648), in one line.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

std::string base64_encoded(std::string_view bytes);
// The bytes again; for text that base64_encoded() made. Anything else gives other bytes, or none.
std::string base64_decoded(std::string_view text);

}  // namespace lewis
