// HTTP requests through the Rust client (rust/include/lewis_http.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lewis {

// True when the work shall end. It is asked a few times a second, from any thread.
using StopFn = std::function<bool()>;

// The bytes that a request sends: `pull` fills the front of a span and returns how many bytes it
// wrote. It must not throw.
struct HttpBody {
  std::function<size_t(std::span<std::byte>)> pull;
  uint64_t size = 0;
};
HttpBody text_body(std::string text);

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers{};
  HttpBody body{};  // without `pull`: none
};

struct LewisHttpResponseDeleter {
  void operator()(void* response) const;
};

class HttpResponse {
 public:
  unsigned status() const { return status_; }
  const std::string& url() const { return url_; }  // that was asked for
  // The value of a header by its name in small letters; "" if there is none.
  const std::string& header(const std::string& name) const;
  // Some more bytes of the body; 0 at its end. Error(kResource) when the connection breaks,
  // Error(kInterrupted).
  size_t read(std::span<std::byte> out);
  // The whole body; Error(kInput) when it has more than `most` bytes.
  std::string text(size_t most);
  // Reads what is left of a body, if it is short, so that its connection serves the next request. A
  // connection that breaks meanwhile matters to nobody. Error(kInterrupted).
  void finish();

 private:
  friend class HttpClient;
  unsigned status_ = 0;
  std::string url_;
  std::map<std::string, std::string> headers_;
  std::unique_ptr<void, LewisHttpResponseDeleter> response_;
  const StopFn* stop_ = nullptr;
};

// A client with its open connections. It may be used by several threads at the same time, and must
// outlive its responses.
class HttpClient {
 public:
  HttpClient(const std::string& user_agent, std::chrono::milliseconds patience, StopFn stop);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // The answer, whatever its status; redirects are not followed. Error(kResource) when there is no
  // answer, Error(kInterrupted) when `stop` says so.
  HttpResponse send(const HttpRequest& request) const;
  const StopFn& stop() const { return stop_; }

 private:
  StopFn stop_;
  void* client_ = nullptr;
};

// Scheme, host and port of an address, as "https://host:443"; "" when it is none of http or https.
std::string origin_of(std::string_view url);
// The address that a Location of an answer from `base` leads to.
std::string joined_url(std::string_view base, const std::string& location);
// Everything but letters, digits and "-_.~/" as %XX; `keep_slash`: else '/' too.
std::string percent_encoded(std::string_view text, bool keep_slash = true);

}  // namespace lewis
