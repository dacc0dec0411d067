#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <cerrno>

#include "host/os_error.h"
#include "services/gateway/store.h"

namespace ravine::services {
namespace {

constexpr std::string_view kMagic = "RVJ1";
constexpr std::uint8_t kPut = 1, kErase = 2;
constexpr std::size_t kHead = 4, kTail = 4;       // length before, checksum behind
constexpr std::size_t kFixed = 1 + 8;             // kind, key
constexpr std::size_t kMaxJournal = 256u << 20;   // bytes of the file
constexpr std::size_t kCompactAbove = 64u << 10;  // bytes; smaller files are left alone

std::uint32_t checksum(ByteView bytes) {
  boost::crc_32_type crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

Bytes encode_record(std::uint8_t kind, std::uint64_t key, ByteView record) {
  ByteWriter out;
  out.write_u32(static_cast<std::uint32_t>(kFixed + record.size()));
  out.write_u8(kind);
  out.write_u64(key);
  out.write(record);
  out.write_u32(checksum(out.view()));
  return out.take();
}

std::size_t size_of(ByteView record) {
  return kHead + kFixed + record.size() + kTail;
}

}  // namespace

Result<std::unique_ptr<FileJournal>> FileJournal::open(std::string path) {
  std::unique_ptr<FileJournal> journal(new FileJournal(std::move(path)));
  if (auto loaded = journal->load(); !loaded) return loaded.error();
  return journal;
}

FileJournal::~FileJournal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<> FileJournal::load() {
  Bytes content;
  if (host::file_exists(path_)) {
    auto read = host::read_secret_file(path_, kMaxJournal);
    if (!read) return read.error();
    content = std::move(*read);
  }
  std::size_t good = 0;
  if (content.size() >= kMagic.size()) {
    if (as_text(content).substr(0, kMagic.size()) != kMagic)
      return Error{ErrorKind::invalid_argument, fmt::format("{} is no gateway journal; move it away", path_)};
    good = kMagic.size();
  }
  while (good != 0 && content.size() - good > kHead) {
    const ByteView rest = ByteView(content).subspan(good);
    const std::size_t size = load_big_endian<std::uint32_t>(rest.data());
    const std::size_t whole = kHead + size + kTail;
    if (size < kFixed || whole > rest.size()) break;
    if (load_big_endian<std::uint32_t>(rest.data() + kHead + size) != checksum(rest.first(kHead + size))) {
      if (whole == rest.size()) break;
      return Error{
          ErrorKind::invalid_argument,
          fmt::format("{} is damaged at byte {}: restore it, or move it away, and what it would have "
                      "kept from running twice may do so",
                      path_, good)};
    }
    ByteReader in(rest.subspan(kHead, size));
    const std::uint8_t kind = in.read_u8();
    const std::uint64_t key = in.read_u64();
    if (kind == kPut) held_[key] = to_bytes(in.rest());
    if (kind == kErase) held_.erase(key);
    good += whole;
  }
  torn_bytes_ = content.size() - good;
  return rewrite();  // without a torn tail and what is dead; opens the file
}

Result<> FileJournal::rewrite() {
  ByteWriter out;
  out.write(as_bytes(kMagic));
  for (const auto& [key, record] : held_) out.write(encode_record(kPut, key, record));
  if (auto written = host::write_file(path_, out.view(), host::FileMode::owner_only); !written)
    return written;
  const int descriptor = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor < 0) return host::os_error(errno, fmt::format("cannot open {}", path_));
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = descriptor;
  file_bytes_ = live_bytes_ = out.size();
  return {};
}

Result<> FileJournal::append(ByteView record, bool durable) {
  if (file_bytes_ + record.size() > kMaxJournal)
    return Error{ErrorKind::limit_reached, fmt::format("{} has reached {} MiB", path_, kMaxJournal >> 20)};
  std::size_t done = 0;
  int fault = 0;
  while (done < record.size()) {
    const ssize_t written = ::write(descriptor_, record.data() + done, record.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      fault = written < 0 ? errno : ENOSPC;
      break;
    }
    done += static_cast<std::size_t>(written);
  }
  if (fault == 0 && durable && ::fdatasync(descriptor_) != 0) fault = errno;
  if (fault != 0) {
    // Half a record would hide those behind it.
    if (::ftruncate(descriptor_, static_cast<off_t>(file_bytes_)) != 0) file_bytes_ += done;
    return host::os_error(fault, fmt::format("cannot write {}; free some space, then send again", path_));
  }
  file_bytes_ += record.size();
  return {};
}

Result<> FileJournal::put(std::uint64_t key, ByteView record) {
  if (auto appended = append(encode_record(kPut, key, record), true); !appended) return appended;
  const auto at = held_.find(key);
  if (at != held_.end()) live_bytes_ -= std::min(live_bytes_, size_of(at->second));
  held_[key] = to_bytes(record);
  live_bytes_ += size_of(record);
  // The record is durable: a rewrite that fails is tried again at the next one.
  if (file_bytes_ > kCompactAbove && live_bytes_ * 4 < file_bytes_) (void)rewrite().ok();
  return {};
}

void FileJournal::erase(std::uint64_t key) {
  const auto at = held_.find(key);
  if (at == held_.end()) return;
  live_bytes_ -= std::min(live_bytes_, size_of(at->second));
  held_.erase(at);
  (void)append(encode_record(kErase, key, {}), false).ok();
}

std::vector<gateway::link::JournalEntry> FileJournal::entries() const {
  std::vector<gateway::link::JournalEntry> all;
  all.reserve(held_.size());
  for (const auto& [key, record] : held_) all.push_back({key, record});
  return all;
}

Result<> FileJournal::clear() {
  held_.clear();
  return rewrite();
}

}  // namespace ravine::services
