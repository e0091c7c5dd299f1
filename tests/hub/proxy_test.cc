// Requests through a CONNECT proxy, and over TLS with an authority of one's own.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <mutex>

#include "base/base64.h"
#include "base/error.h"
#include "hub/served_model.h"
#include "scoped_env.h"
#include "snapshot.h"

namespace lewis {
namespace {

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

int connected(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

// Listens on 127.0.0.1 and runs `talk` for each connection, on a thread of its own.
class Listener {
 public:
  explicit Listener(std::function<void(int socket, const std::atomic<bool>& ends)> talk)
      : talk_(std::move(talk)), fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd_, 64) != 0)
      throw std::runtime_error("no socket to listen on");
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Listener() {
    ends_ = true;
    thread_.join();
    close(fd_);
  }
  int port = 0;

 private:
  void serve() {
    std::vector<std::thread> talks;
    while (!ends_) {
      pollfd ready = {fd_, POLLIN, 0};
      if (poll(&ready, 1, 20) <= 0) continue;
      const int socket = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket >= 0) talks.emplace_back([this, socket] { talk_(socket, ends_); });
    }
    for (std::thread& talk : talks) talk.join();
  }

  std::function<void(int, const std::atomic<bool>&)> talk_;
  int fd_;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

bool send_all(int socket, const char* bytes, ssize_t size) {
  while (size > 0) {
    const ssize_t sent = send(socket, bytes, static_cast<size_t>(size), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes += sent;
    size -= sent;
  }
  return true;
}

// Carries bytes both ways until one side ends.
void splice_sockets(int a, int b, const std::atomic<bool>& ends) {
  while (!ends) {
    pollfd ready[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    if (poll(ready, 2, 20) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (!ready[i].revents) continue;
      char piece[1 << 14];
      const ssize_t size = recv(ready[i].fd, piece, sizeof(piece), 0);
      if (size <= 0 || !send_all(ready[1 - i].fd, piece, size)) return;
    }
  }
}

// A proxy that knows CONNECT alone, and asks for a user if it has one.
class ConnectProxy {
 public:
  std::string user;  // "name:password"
  std::vector<std::string> targets() const {
    const std::lock_guard lock(mutex_);
    return targets_;
  }
  std::string address(const std::string& login = "") const {
    return "http://" + login + "127.0.0.1:" + std::to_string(listener_.port);
  }

 private:
  void talk(int socket, const std::atomic<bool>& ends) {
    std::string head;
    char byte = 0;
    while (!head.ends_with("\r\n\r\n") && recv(socket, &byte, 1, 0) == 1) head += byte;
    const std::string target = head.substr(8, head.find(" HTTP") - 8);
    const bool known =
        user.empty() || head.find("Basic " + base64_encoded(user) + "\r\n") != head.npos;
    {
      const std::lock_guard lock(mutex_);
      targets_.push_back(head.starts_with("CONNECT ") ? target : "no CONNECT");
    }
    const int there = known ? connected(std::stoi(target.substr(target.rfind(':') + 1))) : -1;
    const std::string answer = there >= 0 ? "HTTP/1.1 200 OK\r\n\r\n"
                               : known    ? "HTTP/1.1 502 Bad Gateway\r\n\r\n"
                                          : "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    send_all(socket, answer.data(), static_cast<ssize_t>(answer.size()));
    if (there >= 0) splice_sockets(socket, there, ends);
    close(there);
    close(socket);
  }

  mutable std::mutex mutex_;
  std::vector<std::string> targets_;
  Listener listener_{[this](int socket, const std::atomic<bool>& ends) { talk(socket, ends); }};
};

using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using CertificatePtr = std::unique_ptr<X509, decltype(&X509_free)>;

// A certificate for 127.0.0.1, signed by `issuer`; an authority's own where that is null.
CertificatePtr certificate(const KeyPtr& key, X509* issuer, EVP_PKEY* issuer_key) {
  CertificatePtr made(X509_new(), X509_free);
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), issuer ? 2 : 1);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
  X509_set_pubkey(made.get(), key.get());
  const char* name = issuer ? "a hub" : "an authority";
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(made.get(), X509_get_subject_name(issuer ? issuer : made.get()));
  const auto extend = [&](int id, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    X509_add_ext(made.get(), extension, -1);
    X509_EXTENSION_free(extension);
  };
  extend(NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
  if (issuer) extend(NID_subject_alt_name, "IP:127.0.0.1");
  X509_sign(made.get(), issuer_key, EVP_sha256());
  return made;
}

// TLS in front of a server that has none.
class TlsFront {
 public:
  TlsFront(int port, const std::filesystem::path& authority_file) : port_(port) {
    const KeyPtr authority_key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const CertificatePtr authority = certificate(authority_key, nullptr, authority_key.get());
    const KeyPtr key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const CertificatePtr own = certificate(key, authority.get(), authority_key.get());
    SSL_CTX_use_certificate(context_.get(), own.get());
    SSL_CTX_use_PrivateKey(context_.get(), key.get());
    FILE* file = fopen(authority_file.c_str(), "w");
    PEM_write_X509(file, authority.get());
    fclose(file);
    listener_.emplace([this](int socket, const std::atomic<bool>& ends) { talk(socket, ends); });
  }
  std::string address() const { return "https://127.0.0.1:" + std::to_string(listener_->port); }

 private:
  void talk(int socket, const std::atomic<bool>& ends) const {
    const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context_.get()), SSL_free);
    SSL_set_fd(tls.get(), socket);
    const int there = SSL_accept(tls.get()) == 1 ? connected(port_) : -1;
    while (there >= 0 && !ends) {
      char piece[1 << 14];
      pollfd ready[2] = {{socket, POLLIN, 0}, {there, POLLIN, 0}};
      const bool buffered = SSL_pending(tls.get()) > 0;
      if (poll(ready, 2, buffered ? 0 : 20) < 0) break;
      if (buffered || ready[0].revents) {
        const int size = SSL_read(tls.get(), piece, sizeof(piece));
        if (size <= 0 || !send_all(there, piece, size)) break;
      }
      if (ready[1].revents) {
        const ssize_t size = recv(there, piece, sizeof(piece), 0);
        if (size <= 0 || SSL_write(tls.get(), piece, static_cast<int>(size)) <= 0) break;
      }
    }
    close(there);
    close(socket);
  }

  int port_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{SSL_CTX_new(TLS_server_method()),
                                                             SSL_CTX_free};
  std::optional<Listener> listener_;
};

class Proxies : public testing::Test {
 protected:
  Proxies() {
    std::signal(SIGPIPE, SIG_IGN);  // SSL_write to a connection that is gone
    // From https nothing is followed to http, so there is no other host for large files.
    for (auto& [_, file] : hub_.server.models["owner/name"].files) file.large = false;
  }
  int port() const {
    const std::string address = hub_.server.address();
    return std::stoi(address.substr(address.rfind(':') + 1));
  }
  std::string target() const { return "127.0.0.1:" + std::to_string(port()); }
  std::string failure() {
    try {
      hub_.fetch();
    } catch (const Error& e) {
      return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }
  void expect_fetched() {
    const auto model = hub_.fetch();
    ASSERT_TRUE(model);
    EXPECT_EQ(file_text(model->folder / "model-00001-of-00002.safetensors"),
              some_bytes(100'000, 2));
  }

  TestHub hub_;
  ConnectProxy proxy_;
  // Whatever the machine has.
  ScopedEnv none_{"NO_PROXY", ""}, no_{"no_proxy", ""}, https_{"HTTPS_PROXY", ""},
      http_{"HTTP_PROXY", ""}, all_{"ALL_PROXY", ""};
};

TEST_F(Proxies, RequestsGoThroughTheProxyOfTheirScheme) {
  const ScopedEnv other("HTTPS_PROXY", "http://127.0.0.1:1");
  const ScopedEnv mine("HTTP_PROXY", proxy_.address());
  expect_fetched();
  ASSERT_FALSE(proxy_.targets().empty());
  for (const std::string& target : proxy_.targets()) EXPECT_EQ(target, this->target());
}

TEST_F(Proxies, HostsOfNoProxyAreAskedDirectly) {
  const ScopedEnv mine("ALL_PROXY", proxy_.address());
  const ScopedEnv direct("NO_PROXY", "elsewhere.org, 127.0.0.1");
  expect_fetched();
  EXPECT_TRUE(proxy_.targets().empty());
}

TEST_F(Proxies, AProxyMayAskWhoIsThere) {
  proxy_.user = "me:p@ss";
  {
    const ScopedEnv with("HTTP_PROXY", proxy_.address("me:p%40ss@"));
    expect_fetched();
  }
  hub_.options.cache = hub_.dir.path / "second";
  const ScopedEnv wrong("HTTP_PROXY", proxy_.address("me:secret@"));
  const std::string why = failure();
  EXPECT_NE(why.find("the proxy of HTTP_PROXY asks who is there"), std::string::npos) << why;
  EXPECT_EQ(why.find("secret"), std::string::npos) << why;
}

TEST_F(Proxies, ErrorsNameTheVariable) {
  for (const auto& [value, said] :
       std::map<std::string, std::string>{{"socks5://127.0.0.1:1", "SOCKS"},
                                          {"http://127.0.0.1:1", "through the proxy"},
                                          {"ftp://127.0.0.1", "no address of a proxy"}}) {
    const ScopedEnv bad("HTTP_PROXY", value);
    const std::string why = failure();
    EXPECT_NE(why.find("HTTP_PROXY"), std::string::npos) << why;
    EXPECT_NE(why.find(said), std::string::npos) << why;
  }
}

TEST_F(Proxies, TlsWithAnAuthorityOfOnesOwn) {
  const std::string file = (hub_.dir.path / "authority.pem").string();
  const TlsFront front(port(), file);
  hub_.options.endpoint = front.address();
  const std::string unknown = failure();
  EXPECT_NE(unknown.find("SSL_CERT_FILE"), std::string::npos) << unknown;
  {
    const ScopedEnv missing("SSL_CERT_FILE", file + ".none");
    const std::string why = failure();
    EXPECT_NE(why.find("SSL_CERT_FILE"), std::string::npos) << why;
    EXPECT_NE(why.find("no certificate"), std::string::npos) << why;
  }
  const ScopedEnv trusted("SSL_CERT_FILE", file);
  expect_fetched();
  // The same behind a proxy, which sees nothing but the place.
  hub_.options.cache = hub_.dir.path / "second";
  const ScopedEnv proxy("HTTPS_PROXY", proxy_.address());
  expect_fetched();
  ASSERT_FALSE(proxy_.targets().empty());
  EXPECT_EQ("https://" + proxy_.targets()[0], front.address());
}

}  // namespace
}  // namespace lewis
