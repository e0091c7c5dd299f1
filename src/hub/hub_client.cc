#include "hub/hub_client.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>
#include <thread>

#include "base/build.h"
#include "base/error.h"
#include "base/json.h"
#include "base/printable.h"
#include "io/hub_cache.h"
#include "io/model_folder.h"

namespace lewis {
namespace {

constexpr size_t kMostOfListing = 64 << 20;
constexpr size_t kMostOfError = 64 << 10;

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return ('0' <= c && c <= '9') || ('a' <= c && c <= 'f'); });
}

// A name of a blob that stays in its folder.
bool is_blob_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && name[0] != '.' &&
         std::ranges::all_of(name, [](unsigned char c) {
           return std::isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

std::optional<uint64_t> number_in(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole ? std::optional(number) : std::nullopt;
}

// Seconds that an answer asks to wait: Retry-After as a number or a date, or RateLimit's t.
std::optional<uint64_t> wanted_wait(const HttpResponse& response) {
  const std::string& after = response.header("retry-after");
  if (const auto seconds = number_in(after)) return seconds;
  tm date{};
  if (!after.empty() && strptime(after.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date)) {
    const time_t wait = timegm(&date) - time(nullptr);
    return static_cast<uint64_t>(std::max<time_t>(wait, 0));
  }
  const std::string& limit = response.header("ratelimit");
  if (const size_t t = limit.find("t="); t != limit.npos) {
    const std::string_view rest = std::string_view(limit).substr(t + 2);
    return number_in(rest.substr(0, rest.find_first_not_of("0123456789")));
  }
  return std::nullopt;
}

// What the hub says about an error: a header, or the body's key.
std::string hub_says(HttpResponse& response) {
  std::string text = response.header("x-error-message");
  if (text.empty()) {
    try {
      const Json body = parse_json(response.text(kMostOfError), "");
      if (body.is_object() && body.contains("error") && body["error"].is_string())
        text = body["error"].get<std::string>();
    } catch (const Error&) {
    }
  }
  constexpr size_t kLongest = 300;
  if (text.size() > kLongest) text.resize(kLongest);
  return text.empty() ? "" : fmt::format(" (the hub says: {})", text);
}

// Size and hash of one of the listing's `siblings`, if it says them.
RemoteFile file_of(const Json& sibling) {
  RemoteFile file;
  file.name = sibling.at("rfilename").get<std::string>();
  const Json* hash = sibling.contains("blobId") ? &sibling["blobId"] : nullptr;
  if (sibling.contains("lfs") && sibling["lfs"].is_object()) {
    const Json& lfs = sibling["lfs"];
    hash = lfs.contains("sha256") ? &lfs["sha256"] : lfs.contains("oid") ? &lfs["oid"] : nullptr;
  }
  if (hash && hash->is_string() && sibling.contains("size") &&
      sibling["size"].is_number_unsigned()) {
    file.blob = hash->get<std::string>();
    file.size = sibling["size"].get<uint64_t>();
  }
  return file;
}

}  // namespace

std::string bare_etag(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

std::string RepoId::label() const { return revision == "main" ? name : name + "@" + revision; }

std::string RepoId::folder() const {
  std::string folder = (kind == Kind::kModel ? "models--" : "datasets--") + name;
  if (const size_t slash = folder.find('/'); slash != folder.npos) folder.replace(slash, 1, "--");
  return folder;
}

bool RepoId::is_commit() const { return revision.size() == 40 && is_hex(revision); }

std::optional<RepoId> parse_repo_id(std::string_view id, RepoId::Kind kind) {
  if (!is_hub_id(id)) return std::nullopt;
  const size_t at = std::min(id.find('@'), id.size());
  RepoId repo;
  repo.kind = kind;
  repo.name = id.substr(0, at);
  if (at < id.size()) repo.revision = id.substr(at + 1);
  return repo;
}

HubClient::HubClient(HubOptions options, StopFn stop, std::function<void(const std::string&)> note)
    : options_(std::move(options)),
      note_(std::move(note)),
      http_(fmt::format("lewis/{}", lewis_version()), options_.patience,
            [this, stop = std::move(stop)] { return end_of_work_ || (stop && stop()); }) {
  if (origin_of(options_.endpoint).empty()) {
    throw usage_error("HF_ENDPOINT {}: expected an address as https://huggingface.co",
                      options_.endpoint);
  }
}

std::string HubClient::api_url(const RepoId& id, std::string_view rest) const {
  return fmt::format("{}/api/{}/{}{}", options_.endpoint,
                     id.kind == RepoId::Kind::kModel ? "models" : "datasets",
                     percent_encoded(id.name), rest);
}

std::string HubClient::file_url(const RepoId& id, const std::string& commit,
                                const std::string& file) const {
  return fmt::format("{}/{}{}/resolve/{}/{}", options_.endpoint,
                     id.kind == RepoId::Kind::kModel ? "" : "datasets/", percent_encoded(id.name),
                     percent_encoded(commit, false), percent_encoded(file));
}

HttpResponse HubClient::follow(HttpRequest request, HttpResponse* head) const {
  constexpr int kMostRedirects = 10;
  const std::string home = origin_of(options_.endpoint);
  const auto headers = request.headers;
  for (int redirects = 0; redirects <= kMostRedirects; ++redirects) {
    request.headers = headers;
    const bool at_home = origin_of(request.url) == home;
    if (at_home && !options_.token.empty())
      request.headers.emplace_back("Authorization", "Bearer " + options_.token);
    HttpResponse response = http_.send(request);
    const unsigned status = response.status();
    const bool moved =
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    if (!moved || response.header("location").empty()) return response;
    response.finish();
    std::string next = joined_url(request.url, response.header("location"));
    if (origin_of(next).empty() || (home.starts_with("https:") && !next.starts_with("https:"))) {
      throw resource_error("{}: is redirected to an address that is not followed ({})", request.url,
                           origin_of(next));
    }
    if (head && at_home && !response.header("x-repo-commit").empty()) {
      *head = std::move(response);
      head = nullptr;
    }
    request.url = std::move(next);
  }
  throw resource_error("{}: more than {} redirects", request.url, kMostRedirects);
}

bool HubClient::is_temporary(unsigned status) {
  return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

void HubClient::wait_to_retry(int number, const HttpResponse* response, const RepoId& id) const {
  constexpr std::chrono::seconds kLongest{300};
  using Milliseconds = std::chrono::milliseconds;
  Milliseconds wait = options_.pause * (1 << std::min(number - 1, 6));
  if (const auto wanted = response ? wanted_wait(*response) : std::nullopt) {
    if (*wanted > static_cast<uint64_t>(kLongest.count())) {
      throw HubFailure(ExitCode::kResource,
                       fmt::format("{}: the hub asks to wait {} s ({}); try again then", id.label(),
                                   *wanted, response->status()),
                       true);
    }
    wait = std::chrono::seconds(*wanted);
    note(fmt::format("{}: the hub answers {} and asks to wait {} s", id.label(), response->status(),
                     *wanted));
  }
  const auto end = std::chrono::steady_clock::now() + wait;
  while (std::chrono::steady_clock::now() < end) {
    if (http_.stop() && http_.stop()()) throw Error(ExitCode::kInterrupted, "interrupted");
    const auto left =
        std::chrono::duration_cast<Milliseconds>(end - std::chrono::steady_clock::now());
    std::this_thread::sleep_for(std::clamp(left, Milliseconds(0), Milliseconds(100)));
  }
}

HttpResponse HubClient::request(const HttpRequest& request, const RepoId& id, int tries) const {
  for (int number = 1;; ++number) {
    std::optional<HttpResponse> response;
    try {
      response = follow(request);
      reached_ = true;
    } catch (const Error& e) {
      if (e.code() != ExitCode::kResource) throw;
      if (number >= (reached_ ? tries : std::min(tries, 2)))
        throw HubFailure(e.code(), e.what(), false);
    }
    if (response && response->status() >= 200 && response->status() < 300)
      return std::move(*response);
    if (response && (!is_temporary(response->status()) || number >= tries))
      throw failure(*response, id);
    wait_to_retry(number, response ? &*response : nullptr, id);
  }
}

std::string HubClient::token_words() const {
  return options_.token.empty()
             ? "no token was sent: set HF_TOKEN, or write it into the file that HF_TOKEN_PATH names"
             : fmt::format("the token of {} was sent", options_.token_source);
}

HubFailure HubClient::failure(HttpResponse& response, const RepoId& id,
                              const std::string& file) const {
  const unsigned status = response.status();
  const std::string kind = response.header("x-error-code");
  const std::string what = file.empty() ? id.label() : fmt::format("{}: {}", id.label(), file);
  const std::string page =
      options_.endpoint + (id.kind == RepoId::Kind::kModel ? "/" : "/datasets/") + id.name;
  const bool final = !is_temporary(status);
  const auto made = [&](ExitCode code, const std::string& text) {
    return HubFailure(code, printable(fmt::format("{}: {}{}", what, text, hub_says(response))),
                      final);
  };
  if (kind == "GatedRepo" || (status == 403 && kind.empty()))
    return made(ExitCode::kUsage,
                fmt::format("access must be granted: accept the conditions at {} with the account "
                            "of the token ({})",
                            page, token_words()));
  if (kind == "RevisionNotFound")
    return made(ExitCode::kUsage,
                fmt::format("the hub has no revision {} of it (see {})", id.revision, page));
  if (kind == "EntryNotFound" || (status == 404 && !file.empty()))
    return made(ExitCode::kUsage, "the hub has no such file");
  if (status == 401 || status == 404)
    return made(
        ExitCode::kUsage,
        fmt::format("{} has no such {}, or it is private ({}; {})", options_.endpoint,
                    id.kind == RepoId::Kind::kModel ? "model" : "data set", status, token_words()));
  if (status == 429)
    return made(ExitCode::kResource,
                fmt::format("too many requests ({}); try again later", status));
  return made(ExitCode::kResource,
              fmt::format("{} answers with status {}", options_.endpoint, status));
}

RemoteFile HubClient::described(const RepoId& id, const std::string& commit,
                                const std::string& file) const {
  HttpRequest ask{.method = "HEAD", .url = file_url(id, commit, file)};
  const std::string home = origin_of(options_.endpoint);
  for (int number = 1;; ++number) {
    HttpResponse head;
    HttpResponse last = follow(ask, &head);
    HttpResponse& answer = head.status() ? head : last;
    if (last.status() >= 400 && is_temporary(last.status()) && number < kTries) {
      wait_to_retry(number, &last, id);
      continue;
    }
    if (last.status() >= 400) throw failure(last, id, file);
    RemoteFile found;
    found.name = file;
    const std::string& linked = answer.header("x-linked-etag");
    found.blob = bare_etag(linked.empty() ? answer.header("etag") : linked);
    const std::string& size = answer.header("x-linked-size");
    const auto bytes = number_in(size.empty() ? last.header("content-length") : size);
    if (!bytes || !is_blob_name(found.blob))
      throw HubFailure(
          ExitCode::kInput,
          fmt::format(
              "{}: {}: the hub states neither size nor ETag; does HF_ENDPOINT lead to a hub?",
              id.label(), file),
          true);
    found.size = *bytes;
    return found;
  }
}

RemoteRepo HubClient::list(const RepoId& id, int tries) const {
  HttpRequest ask{
      .url = api_url(id, "/revision/" + percent_encoded(id.revision, false) + "?blobs=true")};
  RemoteRepo repo;
  repo.id = id;
  const std::string where = fmt::format("{}: the hub's list of files", id.label());
  std::string text;
  for (int number = 1; text.empty(); ++number) {
    HttpResponse response = request(ask, id, tries);
    try {
      text = response.text(kMostOfListing);
    } catch (const Error& e) {
      if (e.code() != ExitCode::kResource) throw;
      if (number >= tries) throw HubFailure(e.code(), e.what(), false);
      wait_to_retry(number, nullptr, id);
    }
    if (text.empty() && number >= tries)
      throw HubFailure(ExitCode::kInput, where + " is empty", true);
  }
  try {
    const Json listing = parse_json(text, where);
    repo.commit = listing.at("sha").get<std::string>();
    for (const Json& sibling : listing.at("siblings")) {
      RemoteFile file = file_of(sibling);
      if (!is_inner_name(file.name))
        throw input_error("{} has a name that leaves the folder: {}", where, file.name);
      repo.files.push_back(std::move(file));
    }
  } catch (const Error& e) {
    throw HubFailure(ExitCode::kInput, printable(e.what()), true);
  } catch (const std::exception&) {
    throw HubFailure(ExitCode::kInput,
                     where + " is not what a hub sends; does HF_ENDPOINT lead to one?", true);
  }
  if (repo.commit.size() != 40 || !is_hex(repo.commit))
    throw HubFailure(ExitCode::kInput, where + " names no commit", true);
  for (RemoteFile& file : repo.files) {
    if (!is_blob_name(file.blob)) file.blob.clear();
  }
  std::ranges::sort(repo.files, {}, &RemoteFile::name);
  return repo;
}

}  // namespace lewis
