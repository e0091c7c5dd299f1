#include "base/git_hash.h"

#include <openssl/evp.h>

#include <array>

#include "base/error.h"

namespace lewis {

GitBlobHash::GitBlobHash(uint64_t size) : state_(EVP_MD_CTX_new()) {
  if (!state_ || EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(state_), EVP_sha1(), nullptr) != 1) {
    throw failed_error("OpenSSL cannot compute SHA-1 here");
  }
  const std::string head = fmt::format("blob {}", size) + '\0';
  add(std::as_bytes(std::span(head)));
}

GitBlobHash::~GitBlobHash() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(state_)); }

void GitBlobHash::add(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(state_), bytes.data(), bytes.size());
}

std::string GitBlobHash::hex() {
  std::array<unsigned char, 20> digest{};
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(state_), digest.data(), nullptr);
  std::string text;
  for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace lewis
