// Files: bounded reads, atomic durable writes, permission checks on the open file, directories and locks.
// Every error names the path and the way out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace ravine::host {

enum class FileMode : std::uint8_t {
  owner_only,      // 0600: keys, secrets, state
  world_readable,  // 0644: certificates, reports
};

// The whole file. Errors: not_found, refused (permission), limit_reached (longer than max_bytes), io.
Result<Bytes> read_file(const std::string& path, std::size_t max_bytes);

// As read_file, and refuses a file that others can read or change: it has to be a regular file, owned by the
// user that runs us or by root, with no permission for group or others. The check is on the open descriptor,
// so nobody can swap the file in between. Error: refused, saying the chmod or chown that helps.
Result<Bytes> read_secret_file(const std::string& path, std::size_t max_bytes);

// Replaces or makes the file so that after a crash at any moment either the old or the new content is there,
// whole: a temporary file beside it, fsync, rename, fsync of the directory. On error (disk full included) the
// old file is intact.
Result<> write_file(const std::string& path, ByteView content, FileMode mode);

// Makes the directory and its missing parents with mode 0700; fine when it exists. Refuses one that others
// can write to.
Result<> make_private_directory(const std::string& path);

Result<> remove_file(const std::string& path);  // fine when it does not exist
bool file_exists(const std::string& path);
// Names (no paths) of the regular files in a directory, sorted. Error: not_found, refused, io.
Result<std::vector<std::string>> list_files(const std::string& directory);

// An exclusive lock that ends with the object, or with the process however it ends.
class FileLock {
 public:
  // Error: already_exists when another process holds it; the message has that process's ID when known.
  static Result<FileLock> acquire(const std::string& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace ravine::host
