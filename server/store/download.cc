#include "server/store/download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cpp/modu/connection.h"
#include "server/store/digest.h"
#include "server/store/url.h"

namespace modu::store {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace fs = std::filesystem;
using ErrorCode = boost::system::error_code;
using Request = http::request<http::empty_body>;
using Parser = http::response_parser<http::buffer_body>;

constexpr size_t kPieceBytes = 256 << 10;

/// A connection whose every step waits for its own end, or for the timeout.
class BlockingConnection {
 public:
  BlockingConnection(const Url& url, const DownloadOptions& options)
      : host_(url.host),
        timeout_(options.timeout_s),
        connection_(io_, {url.host, url.port, "", url.tls, options.ca_file}) {}

  absl::Status Open() {
    std::string why;
    ErrorCode error;
    Wait(
        [&](auto done) {
          connection_.Connect([&why, done](std::string failed) {
            why = std::move(failed);
            done(ErrorCode());
          });
        },
        &error);
    if (error) why = error.message();
    return why.empty() ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(host_, ": ", why));
  }

  bool Write(const Request& request, ErrorCode* error) {
    return Wait(
        [&](auto done) {
          http::async_write(connection_, request, [done](ErrorCode e, size_t) { done(e); });
        },
        error);
  }

  bool ReadHeader(Parser* parser, ErrorCode* error) {
    return Wait(
        [&](auto done) {
          http::async_read_header(connection_, buffer_, *parser,
                                  [done](ErrorCode e, size_t) { done(e); });
        },
        error);
  }

  bool ReadSome(Parser* parser, ErrorCode* error) {
    return Wait(
        [&](auto done) {
          http::async_read(connection_, buffer_, *parser, [done](ErrorCode e, size_t) { done(e); });
        },
        error);
  }

 private:
  /// Starts an operation and runs until it ends.
  template <typename Start>
  bool Wait(Start start, ErrorCode* error) {
    bool ended = false;
    start([&ended, error](ErrorCode e) {
      ended = true;
      *error = e;
    });
    io_.restart();
    io_.run_for(timeout_);
    if (!ended) {
      connection_.Close();
      io_.restart();
      io_.run();  // it ends as cancelled
      *error = asio::error::timed_out;
    }
    return !*error;
  }

  const std::string host_;
  const std::chrono::seconds timeout_;
  asio::io_context io_;
  client::Connection connection_;
  beast::flat_buffer buffer_{64 << 10};
};

/// The file that grows, and the mark by which the server tells whether it is still the same.
class PartFile {
 public:
  explicit PartFile(const std::string& target)
      : path_(target + ".part"), tag_path_(target + ".part.etag") {}
  ~PartFile() { Close(); }

  int64_t Size() const {
    std::error_code error;
    const auto size = fs::file_size(path_, error);
    return error ? 0 : static_cast<int64_t>(size);
  }
  std::string Tag() const {
    std::ifstream in(tag_path_);
    std::string tag;
    std::getline(in, tag);
    return tag;
  }
  bool Open(bool append, const std::string& tag) {
    Close();
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0644);
    if (!append) std::ofstream(tag_path_) << tag << '\n';
    return fd_ >= 0;
  }
  bool Write(const char* data, size_t bytes) {
    while (bytes > 0) {
      const ssize_t written = write(fd_, data, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return false;
      data += written;
      bytes -= static_cast<size_t>(written);
    }
    return true;
  }
  bool Sync() { return fsync(fd_) == 0; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void Discard() {
    Close();
    std::error_code error;
    fs::remove(path_, error);
    fs::remove(tag_path_, error);
  }
  bool MoveTo(const std::string& target) {
    Close();
    std::error_code error;
    fs::rename(path_, target, error);
    std::error_code ignored;
    fs::remove(tag_path_, ignored);
    return !error;
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_, tag_path_;
  int fd_ = -1;
};

absl::Status StatusOfAnswer(const Url& url, unsigned status) {
  const std::string message = absl::StrCat(url.host, ": the server answered ", status);
  if (status == 404 || status == 410) return absl::NotFoundError(message);
  if (status == 401 || status == 403) return absl::PermissionDeniedError(message);
  if (status >= 500 || status == 429) return absl::UnavailableError(message);
  return absl::FailedPreconditionError(message);
}

/// "bytes 100-199/200" must start at `start`; the total, or -1.
bool ContentRangeFits(const std::string& text, int64_t start, int64_t* total) {
  long long first = -1, last = -1, whole = -1;
  const int fields = std::sscanf(text.c_str(), "bytes %lld-%lld/%lld", &first, &last, &whole);
  *total = fields == 3 ? whole : -1;
  return fields >= 2 && first == start && last >= first;
}

absl::Status ReadBody(BlockingConnection* connection, Parser* parser, PartFile* part, int64_t done,
                      int64_t total, const DownloadOptions& options) {
  std::vector<char> piece(kPieceBytes);
  if (options.progress) options.progress(done, total);
  while (!parser->is_done()) {
    parser->get().body().data = piece.data();
    parser->get().body().size = piece.size();
    ErrorCode error;
    connection->ReadSome(parser, &error);
    const size_t bytes = piece.size() - parser->get().body().size;
    if (bytes > 0 && !part->Write(piece.data(), bytes)) {
      return absl::ResourceExhaustedError("the model folder cannot be written (is the disk full?)");
    }
    done += static_cast<int64_t>(bytes);
    if (done > options.max_bytes) {
      part->Discard();
      return absl::ResourceExhaustedError(
          absl::StrCat("the file is larger than the limit of ", options.max_bytes, " bytes"));
    }
    if (options.progress) options.progress(done, total);
    if (error && error != http::error::need_buffer) {
      return absl::UnavailableError(absl::StrCat("the connection broke after ", done, " bytes (",
                                                 error.message(), "): call again to continue"));
    }
  }
  if (total >= 0 && done != total) {  // a part that was answered as if it were the rest
    return absl::UnavailableError(
        absl::StrCat("the server sent ", done, " of ", total, " bytes: call again to continue"));
  }
  return absl::OkStatus();
}

absl::Status Fetch(const Url& first, PartFile* part, const DownloadOptions& options) {
  Url url = first;
  for (int redirects = 0;; ++redirects) {
    if (!url.tls && !url.IsLoopback() && !options.allow_http) {
      return absl::InvalidArgumentError(
          "http:// is not encrypted: use https://, or modu pull --allow-http");
    }
    int64_t start = part->Size();
    const std::string tag = part->Tag();
    // Without a mark of the file's version only a checksum can tell that the pieces fit.
    if (tag.empty() && options.sha256.empty()) start = 0;
    BlockingConnection connection(url, options);
    if (absl::Status opened = connection.Open(); !opened.ok()) return opened;
    Request request(http::verb::get, url.target, 11);
    request.set(http::field::host, url.Authority());
    request.set(http::field::user_agent, "modu/" MODU_VERSION);
    request.set(http::field::accept, "*/*");
    request.set(http::field::accept_encoding, "identity");
    request.set(http::field::connection, "close");
    if (start > 0) {
      request.set(http::field::range, absl::StrCat("bytes=", start, "-"));
      if (!tag.empty()) request.set(http::field::if_range, tag);
    }
    Parser parser;
    parser.header_limit(64 << 10);
    parser.body_limit(static_cast<uint64_t>(options.max_bytes));
    ErrorCode error;
    if (!connection.Write(request, &error) || !connection.ReadHeader(&parser, &error)) {
      if (error == http::error::body_limit) {
        return absl::ResourceExhaustedError(
            absl::StrCat("the file is larger than the limit of ", options.max_bytes, " bytes"));
      }
      return absl::UnavailableError(absl::StrCat(url.host, ": no answer (", error.message(), ")"));
    }
    const auto& head = parser.get();
    const unsigned status = head.result_int();
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
      if (redirects >= options.max_redirects) {
        return absl::FailedPreconditionError(
            absl::StrCat("more than the limit of ", options.max_redirects, " redirects"));
      }
      absl::StatusOr<Url> next = ResolveLocation(url, std::string(head[http::field::location]));
      if (!next.ok()) return next.status();
      if (url.tls && !next->tls)
        return absl::FailedPreconditionError("a redirect from https to http is not followed");
      url = *std::move(next);
      continue;
    }
    if (status == 416 && start > 0) {  // what lies here is no beginning of what is there
      part->Discard();
      if (redirects >= options.max_redirects) return StatusOfAnswer(url, status);
      continue;
    }
    if (status != 200 && status != 206) return StatusOfAnswer(url, status);
    int64_t total = parser.content_length() ? static_cast<int64_t>(*parser.content_length()) : -1;
    const bool continues = status == 206;
    if (continues &&
        !ContentRangeFits(std::string(head[http::field::content_range]), start, &total)) {
      part->Discard();
      return absl::UnavailableError(
          absl::StrCat(url.host, ": the server sent another part of the file than asked for"));
    }
    std::string etag(head[http::field::etag]);
    if (etag.rfind("W/", 0) == 0) etag.clear();  // a weak mark does not promise equal bytes
    if (!part->Open(continues, etag))
      return absl::PermissionDeniedError("the model folder cannot be written");
    absl::Status read = ReadBody(&connection, &parser, part, continues ? start : 0, total, options);
    if (!read.ok()) return read;
    return part->Sync() ? absl::OkStatus()
                        : absl::ResourceExhaustedError(
                              "the model folder cannot be written (is the disk full?)");
  }
}

}  // namespace

absl::Status Download(const std::string& url, const std::string& target,
                      const DownloadOptions& options) {
  absl::StatusOr<Url> parsed = ParseUrl(url);
  if (!parsed.ok()) return parsed.status();
  PartFile part(target);
  absl::Status fetched = Fetch(*parsed, &part, options);
  if (!fetched.ok()) return fetched;
  if (!options.sha256.empty()) {
    absl::StatusOr<std::string> digest = Sha256OfFile(part.path());
    if (!digest.ok()) return digest.status();
    if (*digest != options.sha256) {
      part.Discard();
      return absl::DataLossError(
          absl::StrCat("checksum: expected sha256 ", options.sha256, ", got ", *digest));
    }
  }
  return part.MoveTo(target) ? absl::OkStatus()
                             : absl::PermissionDeniedError("the model folder cannot be written");
}

}  // namespace modu::store
