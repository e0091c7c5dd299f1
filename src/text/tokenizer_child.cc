#include "text/tokenizer_child.h"

#include <cstring>
#include <memory>

#include "base/error.h"
#include "text/rust_border.h"

namespace lewis {
namespace {

// A request is one of these, an option of it, and bytes.
enum class Verb : char { kEncode, kDecode, kIdsOf, kTokenOf, kVocabSize };

constexpr size_t kBegin = 2;  // bytes of a verb and its option

std::string request_of(Verb verb, unsigned option, std::string_view bytes = {}) {
  std::string request;
  request.reserve(kBegin + bytes.size());
  request += static_cast<char>(verb);
  request += static_cast<char>(option);
  request += bytes;
  return request;
}

template <typename T>
std::string_view bytes_of(std::span<T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

template <typename T>
std::vector<T> values_of(std::string_view bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// The child's side.
class Answerer {
 public:
  Answerer(const std::string& json, std::string where) : where_(std::move(where)) {
    LewisTokenizer* tokenizer = nullptr;
    rust::Text error;
    if (!lewis_tokenizer_new(json.data(), json.size(), &tokenizer, error.out()))
      throw rust::failure(error, "{}: not a tokenizer", where_);
    tokenizer_.reset(tokenizer, rust::FreeTokenizer());
  }

  std::string operator()(std::string_view request) const {
    const char option = request[1];
    const std::string_view bytes = request.substr(kBegin);
    switch (static_cast<Verb>(request[0])) {
      case Verb::kEncode:
        return encode(bytes, static_cast<unsigned>(option));
      case Verb::kDecode:
        return decode(values_of<uint32_t>(bytes), option != 0);
      case Verb::kIdsOf:
        return ids_of(bytes);
      case Verb::kTokenOf:
        return token_of(values_of<uint32_t>(bytes).at(0));
      case Verb::kVocabSize:
        return vocab_size();
    }
    throw failed_error("{}: an unknown request", where_);
  }

 private:
  std::string encode(std::string_view text, unsigned how) const {
    rust::Ids ids;
    rust::Text error;
    if (!lewis_tokenizer_encode(tokenizer_.get(), text.data(), text.size(), how, ids.out(),
                                error.out())) {
      throw rust::failure(error, "{}: a text cannot be encoded", where_);
    }
    return std::string(bytes_of(std::span(ids.begin(), ids.size())));
  }

  std::string decode(const std::vector<uint32_t>& ids, bool skip_special) const {
    rust::Text text, error;
    if (!lewis_tokenizer_decode(tokenizer_.get(), ids.data(), ids.size(), skip_special, text.out(),
                                error.out())) {
      throw rust::failure(error, "{}: token ids cannot be decoded", where_);
    }
    return text.str();
  }

  // Before each token stands its size.
  std::string ids_of(std::string_view tokens) const {
    std::vector<int64_t> ids;
    while (!tokens.empty()) {
      uint64_t size = 0;
      std::memcpy(&size, tokens.data(), sizeof size);
      const std::string_view token = tokens.substr(sizeof size, size);
      rust::Text error;
      if (!lewis_tokenizer_token_to_id(tokenizer_.get(), token.data(), token.size(),
                                       &ids.emplace_back(-1), error.out())) {
        throw rust::failure(error, "{}", where_);
      }
      tokens.remove_prefix(sizeof size + size);
    }
    return std::string(bytes_of(std::span(ids)));
  }

  // "+" and the token, or nothing.
  std::string token_of(uint32_t id) const {
    bool found = false;
    rust::Text token, error;
    if (!lewis_tokenizer_id_to_token(tokenizer_.get(), id, token.out(), &found, error.out()))
      throw rust::failure(error, "{}", where_);
    return found ? "+" + token.str() : "";
  }

  std::string vocab_size() const {
    size_t size = 0;
    rust::Text error;
    if (!lewis_tokenizer_vocab_size(tokenizer_.get(), &size, error.out()))
      throw rust::failure(error, "{}", where_);
    return std::to_string(size);
  }

  std::shared_ptr<LewisTokenizer> tokenizer_;
  std::string where_;
};

// A tokenizer of a real model is read at 20 MB/s into ten times its bytes, encodes and decodes
// 1 MB/s or more, and needs about a hundred bytes per byte of text.
Allowance reading(size_t json) {
  return {std::chrono::microseconds(json / 2), (uint64_t{256} << 20) + 64 * uint64_t{json}};
}
Allowance working(size_t bytes) {
  return {std::chrono::microseconds(10'000 + 10 * bytes), (uint64_t{32} << 20) + 1000 * bytes};
}

ChildProcess start_tokenizer(const std::string& json, const std::string& where) {
  return ChildProcess({where, reading(json.size()), [&] { return Answerer(json, where); }});
}

}  // namespace

TokenizerChild::TokenizerChild(const std::string& json, const std::string& where)
    : child_(start_tokenizer(json, where)) {}

std::vector<uint32_t> TokenizerChild::encode(std::string_view text, unsigned how) const {
  return values_of<uint32_t>(
      child_.ask(request_of(Verb::kEncode, how, text), working(text.size())));
}

std::string TokenizerChild::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  return child_.ask(request_of(Verb::kDecode, skip_special_tokens, bytes_of(ids)),
                    working(ids.size_bytes()));
}

std::vector<int64_t> TokenizerChild::ids_of(std::span<const std::string> tokens) const {
  std::string bytes;
  for (const std::string& token : tokens) {
    const uint64_t size = token.size();
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
    bytes += token;
  }
  return values_of<int64_t>(child_.ask(request_of(Verb::kIdsOf, 0, bytes), working(bytes.size())));
}

std::optional<std::string> TokenizerChild::token_of(int32_t id) const {
  const std::string reply =
      child_.ask(request_of(Verb::kTokenOf, 0, bytes_of(std::span(&id, 1))), working(sizeof id));
  return reply.empty() ? std::nullopt : std::optional(reply.substr(1));
}

uint64_t TokenizerChild::vocab_size() const {
  return std::stoull(child_.ask(request_of(Verb::kVocabSize, 0), working(0)));
}

}  // namespace lewis
