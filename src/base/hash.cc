#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the functions of xxhash.h for what the processor has
#endif

#include <new>

#include "base/error.h"

namespace lewis {
namespace {

// SHA-256 in a context of our own: the system's configuration of OpenSSL may switch it off in the
// default one, or ask for modules that do not fit the OpenSSL inside this program.
const EVP_MD* sha256() {
  static OSSL_LIB_CTX* const context = OSSL_LIB_CTX_new();
  static const EVP_MD* const method =
      context ? EVP_MD_fetch(context, "SHA2-256", nullptr) : nullptr;
  return method;
}

}  // namespace

Sha256::Sha256() : state_(EVP_MD_CTX_new()) {
  const EVP_MD* method = sha256();
  if (!state_ || !method ||
      EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(state_), method, nullptr) != 1) {
    throw failed_error("OpenSSL cannot compute SHA-256 here");
  }
}

Sha256::~Sha256() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(state_)); }

Sha256& Sha256::add(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(state_), bytes.data(), bytes.size());
  return *this;
}

std::array<unsigned char, 32> Sha256::digest() {
  std::array<unsigned char, 32> bytes{};
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(state_), bytes.data(), nullptr);
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
  std::array<unsigned char, 45> encoded{};  // 44 characters and a zero
  const int length = EVP_EncodeBlock(encoded.data(), digest.data(), digest.size());
  return {encoded.begin(), encoded.begin() + length};
}

std::string hash_text(uint64_t hash) { return fmt::format("{:016x}", hash); }

uint64_t xxh3_64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace lewis
