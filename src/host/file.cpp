#include "host/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <utility>

#include "host/os_error.h"

namespace ravine::host {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int value() const { return value_; }
  bool is_open() const { return value_ >= 0; }

 private:
  int value_;
};

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<Bytes> read_all(int descriptor, const std::string& path, std::size_t max_bytes) {
  Bytes content;
  std::uint8_t chunk[16384];
  for (;;) {
    const ssize_t got = ::read(descriptor, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error(errno, fmt::format("read {}", path));
    if (got == 0) return content;
    if (content.size() + static_cast<std::size_t>(got) > max_bytes)
      return Error{ErrorKind::limit_reached,
                   fmt::format("{}: longer than the {} bytes allowed", path, max_bytes)};
    content.insert(content.end(), chunk, chunk + got);
  }
}

Result<> check_private(int descriptor, const std::string& path) {
  struct stat facts{};
  if (::fstat(descriptor, &facts) != 0) return os_error(errno, fmt::format("inspect {}", path));
  if (!S_ISREG(facts.st_mode)) return Error{ErrorKind::refused, fmt::format("{}: not a regular file", path)};
  if (facts.st_uid != ::geteuid() && facts.st_uid != 0)
    return Error{ErrorKind::refused,
                 fmt::format("{}: owned by user {}, not by {}; chown it, or run as its owner", path,
                             facts.st_uid, ::geteuid())};
  if ((facts.st_mode & 077) != 0)
    return Error{ErrorKind::refused, fmt::format("{}: mode {:04o} lets others at a secret; run: chmod 600 {}",
                                                 path, facts.st_mode & 07777, path)};
  return {};
}

Result<> write_all(int descriptor, ByteView content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t put = ::write(descriptor, content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      if (errno == ENOSPC || errno == EDQUOT)
        return Error{ErrorKind::io,
                     fmt::format("write {}: no space left (disk full or quota used up); the old file, if "
                                 "any, is unchanged; free some space",
                                 path)};
      return os_error(errno, fmt::format("write {}", path));
    }
    content = content.subspan(static_cast<std::size_t>(put));
  }
  if (::fsync(descriptor) != 0) return os_error(errno, fmt::format("flush {} to disk", path));
  return {};
}

Result<> replace_file(int descriptor, const std::string& temporary, const std::string& path, ByteView content,
                      FileMode mode) {
  if (::fchmod(descriptor, mode == FileMode::owner_only ? 0600 : 0644) != 0)
    return os_error(errno, fmt::format("set the permissions of {}", path));
  if (auto written = write_all(descriptor, content, path); !written) return written;
  if (::rename(temporary.c_str(), path.c_str()) != 0) return os_error(errno, fmt::format("replace {}", path));
  const std::string directory = directory_of(path);
  const Descriptor parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.is_open() && ::fsync(parent.value()) != 0 && errno != EINVAL)  // some file systems cannot
    return os_error(errno, fmt::format("flush directory {} to disk", directory));
  return {};
}

}  // namespace

Result<Bytes> read_file(const std::string& path, std::size_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return os_error(errno, fmt::format("open {}", path));
  return read_all(file.value(), path, max_bytes);
}

Result<Bytes> read_secret_file(const std::string& path, std::size_t max_bytes) {
  // Non-blocking, so that a FIFO in its place cannot hold us; it means nothing for a regular file.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) return os_error(errno, fmt::format("open {}", path));
  if (auto checked = check_private(file.value(), path); !checked) return checked.error();
  return read_all(file.value(), path, max_bytes);
}

Result<> write_file(const std::string& path, ByteView content, FileMode mode) {
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600
  if (!file.is_open()) return os_error(errno, fmt::format("make a file beside {}", path));
  auto outcome = replace_file(file.value(), temporary, path, content, mode);
  if (!outcome) ::unlink(temporary.c_str());
  return outcome;
}

Result<> make_private_directory(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      const int error = errno;
      // A parent that exists but may not be written to (EROFS, EACCES) matters only if something in it is
      // missing.
      struct stat facts{};
      if (::stat(part.c_str(), &facts) != 0) return os_error(error, fmt::format("make directory {}", part));
    }
    if (slash == std::string::npos) break;
  }
  struct stat facts{};
  if (::stat(path.c_str(), &facts) != 0) return os_error(errno, fmt::format("inspect {}", path));
  if (!S_ISDIR(facts.st_mode)) return Error{ErrorKind::refused, fmt::format("{}: not a directory", path)};
  if ((facts.st_mode & 022) != 0)
    return Error{ErrorKind::refused,
                 fmt::format("{}: mode {:04o} lets others write there; run: chmod go-w {}", path,
                             facts.st_mode & 07777, path)};
  return {};
}

Result<> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return os_error(errno, fmt::format("delete {}", path));
  return {};
}

bool file_exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

Result<std::vector<std::string>> list_files(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> opened(::opendir(directory.c_str()), ::closedir);
  if (opened == nullptr) return os_error(errno, fmt::format("list {}", directory));
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(opened.get())) {
    struct stat facts{};
    if (::fstatat(::dirfd(opened.get()), entry->d_name, &facts, 0) == 0 && S_ISREG(facts.st_mode))
      names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<FileLock> FileLock::acquire(const std::string& path) {
  FileLock lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.descriptor_ < 0) return os_error(errno, fmt::format("open lock {}", path));
  if (::flock(lock.descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return os_error(errno, fmt::format("lock {}", path));
    const auto holder = read_all(lock.descriptor_, path, 32);
    return Error{
        ErrorKind::already_exists,
        fmt::format("{}: another process holds it{}", path,
                    holder && !holder->empty() ? fmt::format(" (process {})", as_text(*holder)) : "")};
  }
  const std::string own = fmt::format("{}", ::getpid());
  if (::ftruncate(lock.descriptor_, 0) != 0 ||
      ::pwrite(lock.descriptor_, own.data(), own.size(), 0) != static_cast<ssize_t>(own.size()))
    return os_error(errno, fmt::format("write lock {}", path));
  return lock;
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace ravine::host
