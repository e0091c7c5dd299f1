#include "hub/http.h"

#include <lewis_http.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "base/error.h"

namespace lewis {
namespace {

// Frees what the border gives back.
struct BorderText {
  LewisText text{nullptr, 0};
  BorderText() = default;
  BorderText(const BorderText&) = delete;
  BorderText& operator=(const BorderText&) = delete;
  ~BorderText() { lewis_text_free(text); }
  std::string_view view() const { return {text.data, text.size}; }
};

bool ask_stop(void* context) {
  const StopFn& stop = *static_cast<const StopFn*>(context);
  return stop && stop();
}

LewisHttpStop border_stop(const StopFn& stop) { return {ask_stop, const_cast<StopFn*>(&stop)}; }

size_t pull_body(void* context, char* out, size_t room) {
  const auto& body = *static_cast<const HttpBody*>(context);
  return body.pull(std::as_writable_bytes(std::span(out, room)));
}

// Addresses in messages are without what follows '?', which may be a signature.
std::string without_query(std::string_view url) {
  return std::string(url.substr(0, url.find('?')));
}

[[noreturn]] void throw_failure(const StopFn& stop, std::string_view url, std::string_view why) {
  if (stop && stop()) throw Error(ExitCode::kInterrupted, "interrupted");
  throw resource_error("{}: {}", without_query(url), why);
}

std::map<std::string, std::string> parse_headers(std::string_view lines) {
  std::map<std::string, std::string> headers;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    const std::string_view line = lines.substr(0, end);
    const size_t colon = line.find(": ");
    if (colon != line.npos) headers.emplace(line.substr(0, colon), line.substr(colon + 2));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return headers;
}

}  // namespace

HttpBody text_body(std::string text) {
  HttpBody body;
  body.size = text.size();
  body.pull = [text = std::move(text), at = size_t{0}](std::span<std::byte> out) mutable {
    const size_t size = std::min(out.size(), text.size() - at);
    std::memcpy(out.data(), text.data() + at, size);
    at += size;
    return size;
  };
  return body;
}

void LewisHttpResponseDeleter::operator()(void* response) const {
  lewis_http_response_free(static_cast<LewisHttpResponse*>(response));
}

const std::string& HttpResponse::header(const std::string& name) const {
  static const std::string kNone;
  const auto it = headers_.find(name);
  return it == headers_.end() ? kNone : it->second;
}

size_t HttpResponse::read(std::span<std::byte> out) {
  size_t size = 0;
  BorderText error;
  if (!lewis_http_read(static_cast<LewisHttpResponse*>(response_.get()),
                       reinterpret_cast<char*>(out.data()), out.size(), border_stop(*stop_), &size,
                       &error.text)) {
    throw_failure(*stop_, url_, error.view());
  }
  return size;
}

std::string HttpResponse::text(size_t most) {
  std::string text;
  std::vector<std::byte> piece(1 << 16);
  while (const size_t size = read(piece)) {
    if (text.size() + size > most)
      throw input_error("{}: the answer has more than {} bytes", without_query(url_), most);
    text.append(reinterpret_cast<const char*>(piece.data()), size);
  }
  return text;
}

void HttpResponse::finish() {
  constexpr size_t kShort = 1 << 16;
  std::vector<std::byte> piece(1 << 12);
  try {
    for (size_t all = 0; all < kShort;) {
      const size_t size = read(piece);
      if (size == 0) return;
      all += size;
    }
  } catch (const Error& e) {
    if (e.code() != ExitCode::kResource) throw;
  }
}

HttpClient::HttpClient(const std::string& user_agent, std::chrono::milliseconds patience,
                       StopFn stop)
    : stop_(std::move(stop)) {
  BorderText error;
  LewisHttpClient* client = nullptr;
  if (!lewis_http_client_new(user_agent.data(), user_agent.size(),
                             static_cast<uint64_t>(patience.count()), &client, &error.text)) {
    throw resource_error("{}", error.view());
  }
  client_ = client;
}

HttpClient::~HttpClient() { lewis_http_client_free(static_cast<LewisHttpClient*>(client_)); }

HttpResponse HttpClient::send(const HttpRequest& request) const {
  std::string headers;
  for (const auto& [name, value] : request.headers) headers += name + ": " + value + "\n";
  HttpBody body = request.body;
  const LewisHttpBody border_body = {body.pull ? pull_body : nullptr, &body, body.size};
  LewisHttpResponse* made = nullptr;
  BorderText error;
  if (!lewis_http_send(static_cast<const LewisHttpClient*>(client_), request.method.data(),
                       request.method.size(), request.url.data(), request.url.size(),
                       headers.data(), headers.size(), border_body, border_stop(stop_), &made,
                       &error.text)) {
    throw_failure(stop_, request.url, error.view());
  }
  HttpResponse response;
  response.response_.reset(made);
  response.status_ = lewis_http_status(made);
  response.url_ = request.url;
  response.stop_ = &stop_;
  BorderText lines;
  if (!lewis_http_headers(made, &lines.text, &error.text))
    throw_failure(stop_, request.url, error.view());
  response.headers_ = parse_headers(lines.view());
  return response;
}

std::string origin_of(std::string_view url) {
  const size_t scheme_end = url.find("://");
  if (scheme_end == url.npos) return "";
  std::string scheme(url.substr(0, scheme_end));
  std::string host(url.substr(scheme_end + 3));
  host.resize(std::min(host.find_first_of("/?#\\"), host.size()));
  if (const size_t user = host.rfind('@'); user != host.npos) host.erase(0, user + 1);
  for (std::string* text : {&scheme, &host}) {
    for (char& c : *text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (scheme != "http" && scheme != "https") return "";
  const size_t colon = host.rfind(':');
  const bool has_port = colon != host.npos && host.find(']', colon) == host.npos;
  if (!has_port) host += scheme == "https" ? ":443" : ":80";
  return scheme + "://" + host;
}

std::string joined_url(std::string_view base, const std::string& location) {
  if (location.find("://") != std::string::npos && !location.starts_with('/')) return location;
  const size_t scheme_end = base.find("://");
  if (location.starts_with("//")) return std::string(base.substr(0, scheme_end + 1)) + location;
  const size_t path = std::min(base.find_first_of("/?#", scheme_end + 3), base.size());
  if (location.starts_with('/')) return std::string(base.substr(0, path)) + location;
  const std::string_view whole_path = base.substr(path, base.find_first_of("?#", path) - path);
  const size_t slash = whole_path.rfind('/');
  const std::string folder(slash == whole_path.npos ? "/" : whole_path.substr(0, slash + 1));
  return std::string(base.substr(0, path)) + folder + location;
}

std::string percent_encoded(std::string_view text, bool keep_slash) {
  std::string encoded;
  for (const unsigned char c : text) {
    const bool plain =
        std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && keep_slash);
    encoded += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02X}", c);
  }
  return encoded;
}

}  // namespace lewis
