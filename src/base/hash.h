// Hashes of bytes: SHA-256 for files and identities, XXH3 for speed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lewis {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  Sha256& add(std::span<const std::byte> bytes);
  Sha256& add(std::string_view text) { return add(std::as_bytes(std::span(text))); }
  // The object is finished afterwards.
  std::array<unsigned char, 32> digest();
  // The digest as 64 hexadecimal digits. The object is finished afterwards, too.
  std::string hex();

 private:
  void* state_;
};

// XXH3 with 64 bits, for bytes that arrive in pieces.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;
  Xxh3& reset();
  Xxh3& add(std::span<const std::byte> bytes);
  uint64_t value() const;

 private:
  void* state_;
};

std::string sha256_hex(std::string_view text);
// SHA-256 in base64, as a Content-Security-Policy has it.
std::string sha256_base64(std::string_view text);
uint64_t xxh3_64(std::span<const std::byte> bytes);
// A hash as 16 hexadecimal digits.
std::string hash_text(uint64_t hash);

}  // namespace lewis
