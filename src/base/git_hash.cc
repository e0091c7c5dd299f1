#include "base/git_hash.h"

#include <openssl/sha.h>

#include <array>

#include "base/error.h"

namespace lewis {
namespace {

SHA_CTX* sha1_of(void* state) { return static_cast<SHA_CTX*>(state); }

}  // namespace

GitBlobHash::GitBlobHash(uint64_t size) : state_(new SHA_CTX) {
  SHA1_Init(sha1_of(state_));
  const std::string head = fmt::format("blob {}", size) + '\0';
  add(std::as_bytes(std::span(head)));
}

GitBlobHash::~GitBlobHash() { delete sha1_of(state_); }

void GitBlobHash::add(std::span<const std::byte> bytes) {
  SHA1_Update(sha1_of(state_), bytes.data(), bytes.size());
}

std::string GitBlobHash::hex() {
  std::array<unsigned char, 20> digest{};
  SHA1_Final(digest.data(), sha1_of(state_));
  std::string text;
  for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace lewis
