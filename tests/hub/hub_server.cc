#include "hub/hub_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "base/base64.h"
#include "base/git_hash.h"
#include "base/hash.h"
#include "base/json.h"

namespace lewis {
namespace {

int listen_somewhere(int& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 64) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no socket to listen on");
  port = ntohs(address.sin_port);
  return fd;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pause(double seconds, const std::atomic<bool>& ends) {
  for (const double end = now() + seconds; !ends && now() < end;)
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.02, end - now() + 1e-4)));
}

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// Reads until the end of the headers; false at the end of the connection.
bool read_until(int socket, std::string& buffer, std::string_view end,
                const std::atomic<bool>& ends) {
  while (buffer.find(end) == std::string::npos) {
    pollfd ready = {socket, POLLIN, 0};
    const int polled = poll(&ready, 1, 50);
    if (ends) return false;
    if (polled == 0) continue;
    char piece[4096];
    const ssize_t n = recv(socket, piece, sizeof(piece), 0);
    if (n <= 0) return false;
    buffer.append(piece, static_cast<size_t>(n));
  }
  return true;
}

std::string small_letters(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string decoded(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      plain += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

ServedRequest parse_request(std::string_view head) {
  ServedRequest request;
  const size_t line = head.find("\r\n");
  const std::string_view first = head.substr(0, line);
  const size_t a = first.find(' '), b = first.rfind(' ');
  request.method = first.substr(0, a);
  request.path = decoded(first.substr(a + 1, b - a - 1));
  for (size_t at = line + 2; at < head.size();) {
    const size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view field = head.substr(at, end - at);
    if (const size_t colon = field.find(": "); colon != field.npos)
      request.headers[small_letters(std::string(field.substr(0, colon)))] = field.substr(colon + 2);
    at = end + 2;
  }
  return request;
}

}  // namespace

namespace {

// A server knows the names of its files; they are computed once for each content. Benchmarks serve
// contents so large that even xxh3 takes as long as sending them; those never change in place.
std::string known_name(bool large, const std::string& content) {
  static std::mutex mutex;
  static std::map<std::tuple<bool, size_t, uint64_t>, std::string> names;
  const std::lock_guard lock(mutex);
  const uint64_t key = content.size() > (16U << 20) ? reinterpret_cast<uintptr_t>(content.data())
                                                    : xxh3_64(std::as_bytes(std::span(content)));
  std::string& name = names[{large, content.size(), key}];
  if (!name.empty()) return name;
  if (large) return name = sha256_hex(content);
  GitBlobHash hash(content.size());
  hash.add(std::as_bytes(std::span(content)));
  return name = hash.hex();
}

}  // namespace

std::string large_name(const std::string& content) { return known_name(true, content); }
std::string small_name(const std::string& content) { return known_name(false, content); }

struct HubServer::Answer {
  unsigned status = 200;
  std::map<std::string, std::string> headers;
  std::string body;
};

HubServer::HubServer()
    : listener_(listen_somewhere(port_)), storage_listener_(listen_somewhere(storage_port_)) {
  threads_.emplace_back([this] { serve(listener_, false); });
  threads_.emplace_back([this] { serve(storage_listener_, true); });
}

HubServer::~HubServer() {
  ends_ = true;
  for (std::thread& thread : threads_) thread.join();
  close(listener_);
  close(storage_listener_);
}

void HubServer::serve(int listener, bool storage) {
  std::vector<std::thread> talks;
  while (!ends_) {
    pollfd ready = {listener, POLLIN, 0};
    if (poll(&ready, 1, 20) <= 0) continue;
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    ++connections;
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    talks.emplace_back([this, socket, storage] {
      talk(socket, storage);
      close(socket);
    });
  }
  for (std::thread& talk : talks) talk.join();
}

void HubServer::talk(int socket, bool storage) {
  std::string buffer;
  while (read_until(socket, buffer, "\r\n\r\n", ends_)) {
    const size_t end = buffer.find("\r\n\r\n");
    ServedRequest request = parse_request(std::string_view(buffer).substr(0, end + 2));
    buffer.erase(0, end + 4);
    const std::string& length = request.headers["content-length"];
    const size_t size = length.empty() ? 0 : std::stoul(length);
    while (buffer.size() < size) {
      char piece[65536];
      const ssize_t n = recv(socket, piece, sizeof(piece), 0);
      if (n <= 0) return;
      buffer.append(piece, static_cast<size_t>(n));
    }
    request.body = buffer.substr(0, size);
    buffer.erase(0, size);
    request.at_storage = storage;
    if (!answer(socket, request)) return;
  }
}

bool HubServer::answer(int socket, ServedRequest& request) {
  {
    const std::lock_guard lock(mutex_);
    request.number = times_[request.method + request.path]++;
    requests_.push_back(request);
  }
  const Fault wrong = fault ? fault(request) : Fault{};
  if (wrong.silence > 0) pause(wrong.silence, ends_);
  if (wrong.close) return false;
  Answer answer;
  if (wrong.status) {
    answer.status = wrong.status;
  } else {
    answer = routed(request, wrong);
  }
  return send_answer(socket, request, answer, wrong);
}

bool HubServer::send_answer(int socket, const ServedRequest& request, Answer& answer,
                            const Fault& wrong) {
  for (const auto& [name, value] : wrong.headers) answer.headers[name] = value;
  if (wrong.body) answer.body = *wrong.body;
  std::string head = fmt::format("HTTP/1.1 {} Status\r\n", answer.status);
  if (!answer.headers.contains("Content-Length"))
    answer.headers["Content-Length"] = std::to_string(answer.body.size());
  for (const auto& [name, value] : answer.headers) head += name + ": " + value + "\r\n";
  if (!send_all(socket, head + "\r\n")) return false;
  return request.method == "HEAD" || send_body(socket, request, answer.body, wrong);
}

bool HubServer::send_body(int socket, const ServedRequest& request, const std::string& body,
                          const Fault& wrong) {
  const size_t size = std::min(wrong.cut_after.value_or(body.size()), body.size());
  constexpr size_t kPiece = 32 << 10;
  for (size_t at = 0; at < size && !ends_; at += kPiece) {
    std::string piece = body.substr(at, std::min(kPiece, size - at));
    if (wrong.flip_byte && at == 0) piece[piece.size() / 2] ^= 1;
    if (const double rate = bytes_per_second; rate > 0) {
      double wait = 0;
      {
        const std::lock_guard lock(rate_mutex_);
        paid_until_ =
            std::max(paid_until_, now() - 0.02) + static_cast<double>(piece.size()) / rate;
        wait = paid_until_ - now();
      }
      if (wait > 0) pause(wait, ends_);
    }
    // Before the client has them, who may ask for the sum at once.
    if (request.at_storage) storage_bytes_ += piece.size();
    if (!send_all(socket, piece)) return false;
    if (wrong.stall > 0 && at == 0) pause(wrong.stall, ends_);
  }
  return size == body.size();
}

HubServer::Answer HubServer::bytes_of(const ServedRequest& request, const std::string& content,
                                      const Fault& wrong) {
  Answer answer;
  answer.headers["Accept-Ranges"] = "bytes";
  const auto range = request.headers.find("range");
  if (range == request.headers.end() || wrong.no_range) {
    answer.body = content;
    return answer;
  }
  size_t begin = 0, end = content.size();
  char last[32] = "";
  sscanf(range->second.c_str(), "bytes=%zu-%31s", &begin, last);
  if (*last) end = std::min(end, std::stoul(last) + 1);
  if (begin >= content.size()) {
    answer.status = 416;
    answer.headers["Content-Range"] = fmt::format("bytes */{}", content.size());
    return answer;
  }
  if (wrong.other_range && begin > 0) --begin;
  answer.status = 206;
  answer.headers["Content-Range"] = fmt::format("bytes {}-{}/{}", begin, end - 1, content.size());
  answer.body = content.substr(begin, end - begin);
  return answer;
}

HubServer::Answer HubServer::listing(const ServedRepo& repo, const std::string& id,
                                     const std::string& rest) {
  Json siblings = Json::array(), tree = Json::array();
  for (const auto& [name, file] : repo.files) {
    Json one = {{"rfilename", name}};
    Json leaf = {{"type", "file"},
                 {"path", name},
                 {"size", file.content.size()},
                 {"oid", small_name(file.content)}};
    const std::string large = file.large ? large_name(file.content) : "";
    if (repo.says_sizes && rest.find("blobs") != rest.npos) {
      one["size"] = file.content.size();
      one["blobId"] = small_name(file.content);
      if (file.large)
        one["lfs"] = {{"sha256", large}, {"size", file.content.size()}, {"pointerSize", 134}};
    }
    if (file.large)
      leaf["lfs"] = {{"oid", large}, {"size", file.content.size()}, {"pointerSize", 134}};
    siblings.push_back(one);
    tree.push_back(leaf);
  }
  Answer answer;
  answer.headers["Content-Type"] = "application/json";
  answer.headers["X-Repo-Commit"] = repo.commit;
  const Json whole = {{"id", id},
                      {"modelId", id},
                      {"sha", repo.commit},
                      {"private", !repo.token.empty()},
                      {"disabled", false},
                      {"gated", false},
                      {"downloads", 0},
                      {"likes", 0},
                      {"tags", Json::array()},
                      {"siblings", siblings}};
  answer.body = rest.starts_with("/tree/") ? tree.dump() : whole.dump();
  return answer;
}

HubServer::Answer HubServer::resolved(const ServedRequest& request, const ServedRepo& repo,
                                      const std::string& rest, const Fault& wrong) {
  Answer answer;
  answer.headers["X-Repo-Commit"] = repo.commit;
  const auto file = repo.files.find(rest);
  if (file == repo.files.end()) {
    answer.status = 404;
    answer.headers["X-Error-Code"] = "EntryNotFound";
    answer.headers["X-Error-Message"] = "Entry not found";
    return answer;
  }
  const std::string& content = file->second.content;
  if (!file->second.large) {
    Answer small = bytes_of(request, content, wrong);
    small.headers["X-Repo-Commit"] = repo.commit;
    small.headers["ETag"] = "\"" + small_name(content) + "\"";
    return small;
  }
  answer.status = 302;
  answer.headers["X-Linked-ETag"] = "\"" + large_name(content) + "\"";
  answer.headers["X-Linked-Size"] = std::to_string(wrong.linked_size.value_or(content.size()));
  answer.headers["Location"] =
      wrong.location.empty() ? storage_address() + "/blobs/" + large_name(content) + "?signature=x"
                             : wrong.location;
  return answer;
}

// PUT of a large file, or of one of its parts, at the other host.
HubServer::Answer HubServer::stored_part(const ServedRequest& request) {
  const size_t question = request.path.find('?');
  const std::string oid = request.path.substr(8, question - 8);  // behind "/upload/"
  const std::lock_guard lock(mutex_);
  if (question == std::string::npos) {
    if (large_name(request.body) != oid) return {400, {}, ""};
    stored[oid] = request.body;
    return {200, {}, ""};
  }
  const std::string number = request.path.substr(question + 6);  // behind "?part="
  parts_[oid][std::stoul(number)] = request.body;
  return {200, {{"ETag", "\"part" + number + "\""}}, ""};
}

HubServer::Answer HubServer::uploads(const ServedRequest& request) {
  Json objects = Json::array();
  const Json all = parse_json(request.body, "");
  for (const Json& wish : all.at("objects")) {
    const std::string oid = wish["oid"].get<std::string>();
    Json object = {{"oid", oid}, {"size", wish["size"]}};
    if (!stored.contains(oid)) {
      Json upload = {{"href", storage_address() + "/upload/" + oid}};
      if (part_bytes > 0) {
        upload = {{"href", address() + "/complete/" + oid},
                  {"header", {{"chunk_size", std::to_string(part_bytes)}}}};
        const size_t count = (wish["size"].get<size_t>() + part_bytes - 1) / part_bytes;
        for (size_t i = 1; i <= count; ++i)
          upload["header"][fmt::format("{:05}", i)] =
              fmt::format("{}/upload/{}?part={}", storage_address(), oid, i);
      }
      object["actions"] = {{"upload", upload},
                           {"verify", {{"href", address() + "/verify/" + oid}}}};
    }
    objects.push_back(object);
  }
  return {
      200, {{"Content-Type", "application/vnd.git-lfs+json"}}, Json{{"objects", objects}}.dump()};
}

HubServer::Answer HubServer::committed(const ServedRequest& request, const std::string& id) {
  ServedRepo& repo = models[id];
  for (size_t begin = 0; begin < request.body.size();) {
    const size_t end = std::min(request.body.find('\n', begin), request.body.size());
    const Json line = parse_json(request.body.substr(begin, end - begin), "commit");
    begin = end + 1;
    if (line["key"] == "header") continue;
    const Json& value = line["value"];
    const std::string path = value["path"].get<std::string>();
    if (line["key"] == "file") {
      repo.files[path] = {base64_decoded(value["content"].get<std::string>()), false};
    } else {
      const auto content = stored.find(value["oid"].get<std::string>());
      if (content == stored.end()) return {400, {}, R"({"error": "no such object"})"};
      repo.files[path] = {content->second, true};
    }
  }
  repo.commit = std::string(40, 'c');
  for (auto& [name, commit] : repo.refs) commit = repo.commit;
  return {200, {}, Json{{"commitOid", repo.commit}, {"commitUrl", address()}}.dump()};
}

// Requests that change something.
HubServer::Answer HubServer::written(const ServedRequest& request) {
  const std::string& path = request.path;
  const auto token = request.headers.find("authorization");
  if (token == request.headers.end() || token->second != "Bearer " + write_token)
    return {token == request.headers.end() ? 401u : 403u,
            {{"X-Error-Message", "You don't have the rights"}},
            ""};
  const std::lock_guard lock(mutex_);
  if (path == "/api/repos/create") {
    const Json wish = parse_json(request.body, "");
    const std::string id =
        wish["organization"].get<std::string>() + "/" + wish["name"].get<std::string>();
    if (models.contains(id)) return {409, {}, "{}"};
    models[id].token = wish["private"].get<bool>() ? write_token : "";
    return {200, {}, Json{{"url", address() + "/" + id}}.dump()};
  }
  if (path.ends_with(".git/info/lfs/objects/batch")) return uploads(request);
  if (path.starts_with("/verify/"))
    return {stored.contains(path.substr(8)) ? 200u : 404u, {}, "{}"};
  if (path.starts_with("/complete/")) {
    std::string whole;
    for (const auto& [number, part] : parts_[path.substr(10)]) whole += part;
    if (large_name(whole) != path.substr(10)) return {400, {}, "{}"};
    stored[path.substr(10)] = whole;
    return {200, {}, "{}"};
  }
  for (const auto& [id, repo] : models) {
    const std::string api = "/api/models/" + id;
    if (path.starts_with(api + "/branch/")) {
      const std::string branch = path.substr(api.size() + 8);
      models[id].refs[branch] = repo.commit;
      return {200, {}, "{}"};
    }
    if (path.starts_with(api + "/preupload/")) {
      Json files = Json::array();
      const Json wish = parse_json(request.body, "");
      for (const Json& file : wish.at("files")) {
        const std::string name = file["path"].get<std::string>();
        const bool large = name.ends_with(".safetensors") || file["size"].get<size_t>() > 50'000;
        files.push_back(
            {{"path", name}, {"uploadMode", large ? "lfs" : "regular"}, {"shouldIgnore", false}});
      }
      return {200, {}, Json{{"files", files}}.dump()};
    }
    if (path.starts_with(api + "/commit/")) return committed(request, id);
  }
  return {404, {{"X-Error-Code", "RepoNotFound"}}, ""};
}

HubServer::Answer HubServer::routed(const ServedRequest& request, const Fault& wrong) {
  const std::string path = request.path.substr(0, request.path.find('?'));
  Answer missing{404, {{"X-Error-Code", "RepoNotFound"}}, ""};
  if (request.method == "PUT" && request.at_storage) return stored_part(request);
  if (request.method == "POST") return written(request);
  if (request.at_storage) {
    for (const auto* repos : {&models, &datasets}) {
      for (const auto& [id, repo] : *repos) {
        std::vector<const std::map<std::string, ServedFile>*> all = {&repo.files};
        for (const auto& [_, files] : repo.others) all.push_back(&files);
        for (const auto* files : all) {
          for (const auto& [name, file] : *files) {
            if (path == "/blobs/" + large_name(file.content))
              return bytes_of(request, file.content, wrong);
          }
        }
      }
    }
    return missing;
  }
  for (const bool model : {true, false}) {
    for (const auto& [id, repo] : model ? models : datasets) {
      const std::string api = (model ? "/api/models/" : "/api/datasets/") + id;
      const std::string files = (model ? "/" : "/datasets/") + id + "/resolve/";
      if (!path.starts_with(api + "/") && !path.starts_with(files)) continue;
      const auto token = request.headers.find("authorization");
      const std::string sent = token == request.headers.end() ? "" : token->second;
      if (!repo.token.empty() && sent != "Bearer " + repo.token)
        return {401,
                {{"X-Error-Code", "RepoNotFound"}, {"X-Error-Message", "Repository not found"}},
                ""};
      const std::string rest =
          request.path.substr(path.starts_with(files) ? files.size() : api.size());
      std::string revision = path.starts_with(files)
                                 ? rest
                                 : rest.substr(std::min(rest.find('/', 1), rest.size() - 1) + 1);
      revision.resize(std::min(revision.find('?'), revision.size()));
      std::string found;
      for (const auto& [name, commit] : repo.refs) {
        if (revision == name || revision.starts_with(name + "/")) found = name;
      }
      if (revision.starts_with(repo.commit)) found = repo.commit;
      ServedRepo other = repo;
      for (const auto& [commit, its_files] : repo.others) {
        if (revision.starts_with(commit)) found = commit;
        const auto ref = repo.refs.find(found);
        if (found == commit || (ref != repo.refs.end() && ref->second == commit)) {
          other.commit = commit;
          other.files = its_files;
        }
      }
      if (found.empty())
        return {
            404, {{"X-Error-Code", "RevisionNotFound"}, {"X-Error-Message", "Invalid rev id"}}, ""};
      if (!path.starts_with(files)) return listing(other, id, rest);
      if (repo.gated)
        return {
            403,
            {{"X-Error-Code", "GatedRepo"}, {"X-Error-Message", "Access to model is restricted"}},
            ""};
      return resolved(request, other, revision.substr(found.size() + 1), wrong);
    }
  }
  return missing;
}

std::vector<ServedRequest> HubServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HubServer::forget_requests() {
  const std::lock_guard lock(mutex_);
  requests_.clear();
  times_.clear();
  storage_bytes_ = 0;
}

}  // namespace lewis
