#include "base/hash.h"

#include <openssl/sha.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the functions of xxhash.h for what the processor has
#endif

#include <new>

#include "base/base64.h"
#include "base/error.h"

namespace lewis {
namespace {

// These are the digests themselves, and not OpenSSL's search for one that the system's
// configuration allows: that may switch it off, and ten times the code would be linked into
// portable programs.
SHA256_CTX* sha256_of(void* state) { return static_cast<SHA256_CTX*>(state); }

}  // namespace

Sha256::Sha256() : state_(new SHA256_CTX) { SHA256_Init(sha256_of(state_)); }

Sha256::~Sha256() { delete sha256_of(state_); }

Sha256& Sha256::add(std::span<const std::byte> bytes) {
  SHA256_Update(sha256_of(state_), bytes.data(), bytes.size());
  return *this;
}

std::array<unsigned char, 32> Sha256::digest() {
  std::array<unsigned char, 32> bytes{};
  SHA256_Final(bytes.data(), sha256_of(state_));
  return bytes;
}

std::string Sha256::hex() {
  std::string text;
  for (const unsigned char byte : digest()) text += fmt::format("{:02x}", byte);
  return text;
}

Xxh3::Xxh3() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  reset();
}

Xxh3::~Xxh3() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

Xxh3& Xxh3::reset() {
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_));
  return *this;
}

Xxh3& Xxh3::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
  return *this;
}

uint64_t Xxh3::value() const {
  return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_));
}

std::string sha256_hex(std::string_view text) { return Sha256().add(text).hex(); }

std::string sha256_base64(std::string_view text) {
  const auto digest = Sha256().add(text).digest();
  return base64_encoded({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

std::string hash_text(uint64_t hash) { return fmt::format("{:016x}", hash); }

uint64_t xxh3_64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace lewis
