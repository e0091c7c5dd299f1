#include "hub/push.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "base/base64.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "io/file.h"

namespace lewis {
namespace {

constexpr size_t kMostOfAnswer = 64 << 20;
constexpr std::string_view kLfsType = "application/vnd.git-lfs+json";

std::string bytes_of(const FileToPush& file, uint64_t most) {
  const File opened = File::open_read(file.path);
  std::string bytes(std::min(most, file.size), '\0');
  opened.read_at(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

// A part of an answer, or HubFailure.
template <typename F>
auto understood(const RepoId& id, const char* what, const F& read) {
  try {
    return read();
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    throw HubFailure(ExitCode::kInput,
                     fmt::format("{}: the answer about {} is not what a hub sends", id.name, what),
                     true);
  }
}

class Push {
 public:
  Push(const HubClient& hub, const RepoId& id, const std::vector<FileToPush>& files,
       const ProgressFn& progress)
      : hub_(hub), id_(id), files_(files), progress_(progress) {}

  void create(bool is_private) const {
    const size_t slash = id_.name.find('/');
    const Json wish = {{"type", "model"},
                       {"name", id_.name.substr(slash + 1)},
                       {"organization", id_.name.substr(0, slash)},
                       {"private", is_private}};
    post_unless_there(hub_.options().endpoint + "/api/repos/create", wish);
    if (id_.revision != "main")
      post_unless_there(hub_.api_url(id_, "/branch/" + percent_encoded(id_.revision, false)),
                        Json::object());
  }

  // Decides which files are large; LFS cannot have empty ones.
  void ask_modes() {
    Json list = Json::array();
    for (const FileToPush& file : files_) {
      list.push_back({{"path", file.name},
                      {"size", file.size},
                      {"sample", base64_encoded(bytes_of(file, 512))}});
    }
    const Json answer = post(
        hub_.api_url(id_, "/preupload/" + percent_encoded(id_.revision, false)), {{"files", list}});
    understood(id_, "the files", [&] {
      for (const Json& file : answer.at("files")) {
        if (file.at("uploadMode") == "lfs") large_.insert(file.at("path").get<std::string>());
      }
      return 0;
    });
    for (const FileToPush& file : files_) {
      if (file.size == 0) large_.erase(file.name);
      // The commit holds small files itself.
      constexpr uint64_t kMostOfSmall = 10 << 20;
      if (file.size > kMostOfSmall) large_.insert(file.name);
    }
  }

  void upload_large_files() {
    std::vector<const FileToPush*> wanted;
    Json objects = Json::array();
    for (const FileToPush& file : files_) {
      if (!large_.contains(file.name)) continue;
      wanted.push_back(&file);
      told_.total += file.size;
      objects.push_back({{"oid", file.sha256}, {"size", file.size}});
    }
    if (wanted.empty()) return;
    const Json answer =
        post(fmt::format("{}/{}.git/info/lfs/objects/batch", hub_.options().endpoint, id_.name),
             {{"operation", "upload"},
              {"transfers", {"basic", "multipart"}},
              {"objects", objects},
              {"hash_algo", "sha256"},
              {"ref", {{"name", id_.revision}}}},
             kLfsType);
    const auto by_oid = understood(id_, "the uploads", [&] {
      std::map<std::string, Json> found;
      for (const Json& object : answer.at("objects"))
        found[object.at("oid").get<std::string>()] = object;
      return found;
    });
    for (const FileToPush* file : wanted) upload(*file, by_oid);
  }

  Pushed commit(const std::string& message) {
    std::string lines =
        dump_json({{"key", "header"}, {"value", {{"summary", message}, {"description", ""}}}}) +
        "\n";
    for (const FileToPush& file : files_) {
      Json line;
      if (large_.contains(file.name)) {
        line = {
            {"key", "lfsFile"},
            {"value",
             {{"path", file.name}, {"algo", "sha256"}, {"oid", file.sha256}, {"size", file.size}}}};
      } else {
        line = {{"key", "file"},
                {"value",
                 {{"content", base64_encoded(bytes_of(file, file.size))},
                  {"path", file.name},
                  {"encoding", "base64"}}}};
        sent_ += file.size;
      }
      lines += dump_json(line) + "\n";
    }
    const Json answer = parse_json(
        send("POST", hub_.api_url(id_, "/commit/" + percent_encoded(id_.revision, false)),
             "application/x-ndjson", [&] { return text_body(lines); })
            .text(kMostOfAnswer),
        id_.name);
    return understood(id_, "the commit", [&] {
      return Pushed{answer.at("commitOid").get<std::string>(),
                    hub_.options().endpoint + "/" + id_.name, files_.size(), sent_};
    });
  }

 private:
  // Sends a request again as long as failures are temporary; `body` makes it anew each time.
  HttpResponse send(const std::string& method, const std::string& url, std::string_view type,
                    const std::function<HttpBody()>& body,
                    std::vector<std::pair<std::string, std::string>> headers = {},
                    unsigned also = 0) const {
    for (int number = 1;; ++number) {
      HttpRequest request{.method = method, .url = url, .headers = headers, .body = body()};
      if (!type.empty()) request.headers.emplace_back("Content-Type", type);
      if (type == kLfsType) request.headers.emplace_back("Accept", type);
      std::optional<HttpResponse> response;
      try {
        response = hub_.follow(request);
      } catch (const Error& e) {
        if (e.code() != ExitCode::kResource) throw;
        if (number >= HubClient::kTries) throw HubFailure(e.code(), e.what(), false);
      }
      if (response) {
        const unsigned status = response->status();
        if ((status >= 200 && status < 300) || status == also) return std::move(*response);
        if (!HubClient::is_temporary(status) || number >= HubClient::kTries)
          throw hub_.failure(*response, id_);
      }
      hub_.wait_to_retry(number, response ? &*response : nullptr, id_);
    }
  }

  Json post(const std::string& url, const Json& wish,
            std::string_view type = "application/json") const {
    const std::string text = dump_json(wish);
    return parse_json(send("POST", url, type, [&] { return text_body(text); }).text(kMostOfAnswer),
                      id_.name);
  }

  void post_unless_there(const std::string& url, const Json& wish) const {
    constexpr unsigned kConflict = 409;
    const std::string text = dump_json(wish);
    send(
        "POST", url, "application/json", [&] { return text_body(text); }, {}, kConflict);
  }

  // The bytes [begin, begin + size) of a file, which tell how far they are.
  HttpBody file_body(const std::shared_ptr<const File>& file, uint64_t begin, uint64_t size) {
    const uint64_t done = told_.done;
    return {.pull = [=, this, at = uint64_t{0}](std::span<std::byte> out) mutable -> size_t {
              const auto piece = out.first(std::min<uint64_t>(out.size(), size - at));
              try {
                file->read_at(begin + at, piece);
              } catch (const std::exception&) {
                return 0;  // the request then fails
              }
              at += piece.size();
              told_.done = done + at;
              return piece.size();
            },
            .size = size};
  }

  void tell() const {
    if (progress_) progress_(told_);
  }

  // PUT of a part; returns its ETag.
  std::string put(const std::shared_ptr<const File>& file, const std::string& url, uint64_t begin,
                  uint64_t size) {
    const uint64_t done = told_.done;
    const HttpResponse response = send("PUT", url, "", [&] {
      told_.done = done;
      return file_body(file, begin, size);
    });
    told_.done = done + size;
    sent_ += size;
    tell();
    return response.header("etag");
  }

  void upload_parts(const FileToPush& file, const std::shared_ptr<const File>& opened,
                    const std::string& href, const Json& header) {
    const auto parts = understood(id_, "parts", [&] {
      std::map<uint64_t, std::string> found;
      for (const auto& [key, value] : header.items()) {
        if (!key.empty() && key.find_first_not_of("0123456789") == key.npos)
          found[std::stoull(key)] = value.get<std::string>();
      }
      return found;
    });
    const uint64_t chunk = understood(id_, "parts", [&] {
      const Json& size = header.at("chunk_size");
      return size.is_string() ? std::stoull(size.get<std::string>()) : size.get<uint64_t>();
    });
    if (chunk == 0 || parts.size() != (file.size + chunk - 1) / chunk) {
      throw HubFailure(ExitCode::kInput,
                       fmt::format("{}: {}: the hub wants {} parts of {} bytes for {} bytes",
                                   id_.name, file.name, parts.size(), chunk, file.size),
                       true);
    }
    Json done = Json::array();
    uint64_t begin = 0;
    for (const auto& [number, url] : parts) {
      const uint64_t size = std::min(chunk, file.size - begin);
      done.push_back({{"partNumber", done.size() + 1}, {"etag", put(opened, url, begin, size)}});
      begin += size;
    }
    const std::string text = dump_json({{"oid", file.sha256}, {"parts", done}});
    send("POST", href, kLfsType, [&] { return text_body(text); });
  }

  void upload(const FileToPush& file, const std::map<std::string, Json>& by_oid) {
    const auto it = by_oid.find(file.sha256);
    const Json object = it == by_oid.end() ? Json::object() : it->second;
    if (object.contains("error") || it == by_oid.end()) {
      const std::string why =
          dump_json(object.contains("error") ? object["error"] : Json("unknown"));
      throw HubFailure(
          ExitCode::kResource,
          fmt::format("{}: {}: the hub does not take it: {}", id_.name, file.name, why), true);
    }
    if (!object.contains("actions")) {  // it is there already
      told_.done += file.size;
      return tell();
    }
    const Json& actions = object["actions"];
    const auto [href, header] = understood(id_, "an upload", [&] {
      const Json& wish = actions.at("upload");
      return std::pair(wish.at("href").get<std::string>(), wish.value("header", Json::object()));
    });
    const auto opened = std::make_shared<const File>(File::open_read(file.path));
    if (header.contains("chunk_size")) {
      upload_parts(file, opened, href, header);
    } else {
      put(opened, href, 0, file.size);
    }
    if (!actions.contains("verify")) return;
    const std::string url = understood(
        id_, "an upload", [&] { return actions["verify"].at("href").get<std::string>(); });
    const std::string text = dump_json({{"oid", file.sha256}, {"size", file.size}});
    send("POST", url, kLfsType, [&] { return text_body(text); });
  }

  const HubClient& hub_;
  const RepoId& id_;
  const std::vector<FileToPush>& files_;
  const ProgressFn& progress_;
  std::set<std::string> large_;
  Progress told_{"upload", "bytes", 0, 0};
  uint64_t sent_ = 0;
};

}  // namespace

Pushed push_files(const HubClient& hub, const RepoId& id, const std::vector<FileToPush>& files,
                  const PushOptions& options, const ProgressFn& progress) {
  if (hub.options().token.empty()) {
    throw usage_error(
        "{}: writing needs a token that may write: set HF_TOKEN, or write it into the "
        "file that HF_TOKEN_PATH names",
        id.name);
  }
  Push push(hub, id, files, progress);
  push.create(options.is_private);
  push.ask_modes();
  push.upload_large_files();
  return push.commit(options.message);
}

}  // namespace lewis
