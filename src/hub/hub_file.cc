#include "hub/hub_file.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <future>

#include "base/error.h"
#include "hub/hub_read_ahead.h"

namespace lewis {
namespace {

constexpr uint64_t kHead = 64 << 10;              // most headers are shorter
constexpr uint64_t kLongestHeader = 100'000'008;  // as SafetensorsFile accepts, with its length
constexpr uint64_t kPart = 8 << 20;  // of a long read that nobody announced; parts come at once
constexpr size_t kWindows = 8;
// A try that brings so much, or a sixteenth of what is asked for, was worth it.
constexpr uint64_t kProgress = 1 << 20;

struct ContentRange {
  uint64_t begin = 0;
  std::optional<uint64_t> total;  // of the file
};

// "bytes 100-199/200" or "bytes 100-199/*"; nothing when it is something else.
std::optional<ContentRange> parse_range(const std::string& text) {
  unsigned long begin = 0, last = 0, total = 0;
  const int found = sscanf(text.c_str(), "bytes %lu-%lu/%lu", &begin, &last, &total);
  if (found < 2) return std::nullopt;
  return ContentRange{begin, found == 3 ? std::optional<uint64_t>(total) : std::nullopt};
}

std::optional<uint64_t> stated_length(const HttpResponse& answer) {
  const std::string& text = answer.header("content-length");
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = !text.empty() && error == std::errc() && end == text.data() + text.size();
  return whole ? std::optional(number) : std::nullopt;
}

// Fills `out` from the body; `why`: the reason why less came, "" when it did not.
size_t read_body(HttpResponse& answer, std::span<std::byte> out, std::string& why) {
  size_t got = 0;
  try {
    while (got < out.size()) {
      const size_t size = answer.read(out.subspan(got));
      if (size == 0) break;
      got += size;
    }
    if (got == out.size()) answer.finish();
  } catch (const Error& e) {
    if (e.code() != ExitCode::kResource) throw;
    why = e.what();
  }
  if (got < out.size() && why.empty()) why = "the body ended early";
  return got;
}

// An address that was signed for some time may be refused later.
bool may_have_expired(unsigned status) {
  return status == 400 || status == 401 || status == 403 || status == 404 || status == 410;
}

}  // namespace

HubFile::HubFile(const HubClient& hub, HubReadAhead& ahead, RepoId id, std::string commit,
                 RemoteFile file)
    : hub_(hub),
      ahead_(ahead),
      id_(std::move(id)),
      commit_(std::move(commit)),
      file_(std::move(file)) {}

HubFile::~HubFile() = default;

std::string HubFile::identity() const {
  return fmt::format("hub {} {} {}", commit_, file_.size, file_.blob);
}

ReadAhead& HubFile::read_ahead() const { return ahead_; }

HubFailure HubFile::changed(const std::string& what) const {
  return HubFailure(ExitCode::kInput, fmt::format("{}: {}", label(), what), true);
}

// ---- requests ----

// One request for a range, to where the last answer came from, or else to the hub.
HttpResponse HubFile::ask(uint64_t offset, uint64_t size, bool& old_address) const {
  HttpRequest request;
  {
    const std::lock_guard lock(mutex_);
    request.url = address_;
  }
  old_address = !request.url.empty();
  if (!old_address) request.url = hub_.file_url(id_, commit_, file_.name);
  request.headers.emplace_back("Range", fmt::format("bytes={}-{}", offset, offset + size - 1));
  HttpResponse head;
  HttpResponse answer = hub_.follow(request, &head);
  check_same_file(head, answer);
  const std::lock_guard lock(mutex_);
  address_ = answer.status() == 206 ? answer.url() : "";
  return answer;
}

// Bytes of two contents must not be mixed.
void HubFile::check_same_file(const HttpResponse& head, const HttpResponse& answer) const {
  const std::string& linked = head.header("x-linked-size");
  if (!linked.empty() && linked != std::to_string(file_.size))
    throw changed(fmt::format("the hub states {} bytes now, {} before", linked, file_.size));
  const std::string name = bare_etag(head.header("x-linked-etag"));
  if (!name.empty() && !file_.blob.empty() && name != file_.blob)
    throw changed(fmt::format("the hub states the hash {} now, {} before", name, file_.blob));
  if (answer.status() != 200 && answer.status() != 206) return;
  const std::string etag = answer.header("etag");
  if (etag.empty()) return;
  const std::lock_guard lock(mutex_);
  if (etag_.empty()) etag_ = etag;
  if (etag_ != etag) {
    throw changed(fmt::format("the file changed between two requests (ETag {}, {} before)",
                              bare_etag(etag), bare_etag(etag_)));
  }
}

// Why an answer of a good status is not the wanted part; "" when it is.
std::string HubFile::why_not(const HttpResponse& answer, uint64_t offset) const {
  if (answer.status() == 416)
    return fmt::format("the hub says that it has no byte {} of {}", offset, file_.size);
  if (answer.status() == 206) {
    const auto range = parse_range(answer.header("content-range"));
    if (range && range->total && *range->total != file_.size) {
      throw changed(
          fmt::format("the hub sends a file of {} bytes, it stated {}", *range->total, file_.size));
    }
    return range && range->begin == offset ? "" : "the hub sends another range than was asked for";
  }
  const auto length = stated_length(answer);
  if (length && *length != file_.size)
    throw changed(fmt::format("the hub sends {} bytes, it stated {}", *length, file_.size));
  // The front of a whole file is what was asked for, too.
  return offset == 0 ? "" : "the hub sends the whole file where a part of it was asked for";
}

void HubFile::fetch(uint64_t offset, std::span<std::byte> out) const {
  try {
    fetch_patiently(offset, out);
  } catch (const HubFailure& e) {
    if (e.code() == ExitCode::kResource) ahead_.note_cut();
    throw;
  }
}

void HubFile::fetch_patiently(uint64_t offset, std::span<std::byte> out) const {
  for (int tries = 1; !out.empty(); ++tries) {
    std::optional<HttpResponse> answer;
    std::string why;
    bool old_address = false;
    try {
      answer = ask(offset, out.size(), old_address);
    } catch (const HubFailure&) {
      throw;
    } catch (const Error& e) {
      if (e.code() != ExitCode::kResource) throw;
      why = e.what();
      const std::lock_guard lock(mutex_);
      address_.clear();
    }
    const unsigned status = answer ? answer->status() : 0;
    const bool good = status == 200 || status == 206 || status == 416;
    if (answer && !good && !HubClient::is_temporary(status)) {
      if (!old_address || !may_have_expired(status)) throw hub_.failure(*answer, id_, file_.name);
      continue;  // the hub says a new address
    }
    if (good) why = why_not(*answer, offset);
    size_t got = 0;
    if (good && why.empty()) got = read_body(*answer, out, why);
    const size_t asked = out.size();
    offset += got;
    out = out.subspan(got);
    if (out.empty()) return;
    if (got >= std::min<uint64_t>(kProgress, asked / 16 + 1)) tries = 1;  // it goes on
    if (tries >= HubClient::kTries) {
      if (answer && !good) throw hub_.failure(*answer, id_, file_.name);
      throw HubFailure(ExitCode::kResource,
                       fmt::format("{}: bytes {} to {} do not come: {}", label(), offset,
                                   offset + out.size(), why),
                       false);
    }
    hub_.wait_to_retry(tries, answer && !good ? &*answer : nullptr, id_);
  }
}

// A long read comes over several connections.
void HubFile::fetch_in_parallel(uint64_t offset, std::span<std::byte> out) const {
  const size_t at_once = std::max<size_t>(1, hub_.options().connections);
  std::vector<std::future<void>> parts;
  while (!out.empty()) {
    const auto part = out.first(std::min<size_t>(kPart, out.size()));
    parts.push_back(std::async(std::launch::async, [this, offset, part] { fetch(offset, part); }));
    offset += part.size();
    out = out.subspan(part.size());
    if (parts.size() < at_once && !out.empty()) continue;
    for (std::future<void>& p : parts) p.wait();
    for (std::future<void>& p : parts) p.get();
    parts.clear();
  }
}

// ---- reads ----

void HubFile::load_head() const {
  std::call_once(head_once_, [this] {
    std::vector<std::byte> head(std::min(kHead, file_.size));
    fetch(0, head);
    uint64_t length = 0;
    if (head.size() >= sizeof(length)) std::memcpy(&length, head.data(), sizeof(length));
    // A length that cannot be is refused by who reads the header.
    const uint64_t end = length < kLongestHeader ? std::min(length + 8, file_.size) : 0;
    if (const uint64_t have = head.size(); end > have) {
      head.resize(end);
      fetch_in_parallel(have, std::span(head).subspan(have));
    }
    head_ = std::move(head);
  });
}

std::span<const std::byte> HubFile::head() const {
  load_head();
  return head_;
}

void HubFile::read_at(uint64_t offset, std::span<std::byte> out) const {
  if (offset > file_.size || out.size() > file_.size - offset) {
    throw input_error("{}: bytes {} to {} are asked for, the file has {}", label(), offset,
                      offset + out.size(), file_.size);
  }
  const auto head = this->head();
  while (!out.empty()) {
    size_t size = 0;
    if (offset < head.size()) {
      size = std::min<size_t>(out.size(), head.size() - offset);
      std::memcpy(out.data(), head.data() + offset, size);
    } else {
      size = ahead_.take(*this, offset, out);
      if (size == 0) return read_directly(offset, out);
    }
    offset += size;
    out = out.subspan(size);
  }
}

// Copies what was fetched before. `wanted`: how many bytes to fetch where that is nothing, for a
// reader that goes on where it stopped; else 0.
size_t HubFile::copy_from_window(uint64_t offset, std::span<std::byte> out,
                                 uint64_t& wanted) const {
  const std::lock_guard lock(mutex_);
  for (const Window& w : windows_) {
    if (w.end() == offset) wanted = std::min<uint64_t>(2 * w.bytes->size(), kPart);
    if (offset < w.begin || offset >= w.end()) continue;
    const size_t size = std::min<size_t>(out.size(), w.end() - offset);
    std::memcpy(out.data(), w.bytes->data() + (offset - w.begin), size);
    return size;
  }
  return 0;
}

void HubFile::read_directly(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    uint64_t wanted = 0;
    if (const size_t size = copy_from_window(offset, out, wanted)) {
      offset += size;
      out = out.subspan(size);
      continue;
    }
    if (out.size() >= kPart) return fetch_in_parallel(offset, out);
    wanted = std::min(std::max<uint64_t>(wanted, out.size()), file_.size - offset);
    auto bytes = std::make_shared<std::vector<std::byte>>(wanted);
    fetch(offset, *bytes);
    std::memcpy(out.data(), bytes->data(), out.size());
    const std::lock_guard lock(mutex_);
    std::erase_if(windows_, [&](const Window& w) { return w.end() == offset; });
    windows_.push_front({offset, std::move(bytes)});
    if (windows_.size() > kWindows) windows_.pop_back();
    return;
  }
}

// ---- the hash ----

void HubFile::begin_hash() const {
  hash_.emplace(file_);
  hashed_ = 0;
  add_to_hash(0, head());
}

void HubFile::add_to_hash(uint64_t offset, std::span<const std::byte> bytes) const {
  if (!hash_ || offset > hashed_ || offset + bytes.size() <= hashed_) return;
  hash_->add(bytes.subspan(hashed_ - offset));
  hashed_ = offset + bytes.size();
  if (hashed_ < file_.size) return;
  const std::string found = hash_->result();
  if (found != file_.blob) {
    throw input_error("{}: the bytes that came have the {} {}, the hub states {}", label(),
                      hash_->kind(), found, file_.blob);
  }
  verified_ = hash_->is_known();
}

}  // namespace lewis
