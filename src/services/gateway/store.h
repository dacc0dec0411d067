// PairingStore: what a pairing of two gateways keeps on disk, so that a process may be killed at any moment.
//
//   NAME.pairing   the pairing code's content, and what was made of it
//   NAME.channel   state of the secure channel, replaced whole and synced
//   NAME.journal   what must not run twice: appended, synced, compacted
//   NAME.lock      held while a process uses the pairing
//   used           digests of codes that were taken here
//
// Files are 0600 and refused when others can read them. Thread rule: one thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/link/journal.h"
#include "gateway/security/pairing.h"
#include "gateway/security/sequence.h"
#include "host/file.h"

namespace ravine::services {

inline constexpr std::size_t kMaxPairings = 256;

// How the keys of a pairing come to be.
enum class KeySource : std::uint8_t {
  pinned,     // from the code alone: nothing on the air
  handshake,  // by Noise before the first request; the code is the psk
};

struct StoredPairing {
  std::string name;
  gateway::security::Role role = gateway::security::Role::near;  // ours
  // As the code says it; its `role` is the reader's, whoever we are.
  gateway::security::Pairing code;
  KeySource keys = KeySource::pinned;
  // Ours for IKpsk2, when the code has one for the other side or came with one.
  std::optional<gateway::security::X25519Private> local_static;
  bool made_here = false;
  bool begun = false;  // a channel was made from it: its first keys are never used again
  std::string peer;    // of a pairing inside a mesh: the peer's name
};

// A map in a file: records with checksums, appended and synced; a torn tail is cut off. Rewritten whole when
// most of it is dead.
class FileJournal final : public gateway::link::Journal {
 public:
  // Errors: io, refused; invalid_argument when damaged elsewhere than at its end (the message names the
  // file).
  static Result<std::unique_ptr<FileJournal>> open(std::string path);
  ~FileJournal() override;

  Result<> put(std::uint64_t key, ByteView record) override;
  void erase(std::uint64_t key) override;
  std::vector<gateway::link::JournalEntry> entries() const override;
  Result<> clear();
  std::size_t file_bytes() const { return file_bytes_; }
  std::size_t torn_bytes() const { return torn_bytes_; }  // cut off at open()

 private:
  explicit FileJournal(std::string path) : path_(std::move(path)) {}
  Result<> load();
  Result<> append(ByteView record, bool durable);
  Result<> rewrite();
  std::string path_;
  int descriptor_ = -1;
  std::map<std::uint64_t, Bytes> held_;
  std::size_t file_bytes_ = 0, live_bytes_ = 0, torn_bytes_ = 0;
};

// The channel's state in one file.
class FileSequenceStore final : public gateway::security::SequenceStore {
 public:
  explicit FileSequenceStore(std::string path) : path_(std::move(path)) {}
  Result<> persist(ByteView state) override;
  Result<std::optional<Bytes>> load() const;  // nullopt: none yet
  Result<> remove();

 private:
  std::string path_;
};

// One pairing in use: holds the lock.
class PairingState {
 public:
  PairingState(PairingState&&) noexcept = default;
  PairingState& operator=(PairingState&&) noexcept = default;

  const StoredPairing& pairing() const { return pairing_; }
  Result<> mark_begun();      // durable before the first key of the code is used
  Result<> forget_channel();  // its file and the journal: a new one is to be made
  FileSequenceStore& channel() { return *channel_; }
  FileJournal& journal() { return *journal_; }

 private:
  friend class PairingStore;
  PairingState(host::FileLock lock, std::string path, StoredPairing pairing);
  host::FileLock lock_;
  std::string path_;  // without suffix
  StoredPairing pairing_;
  std::unique_ptr<FileSequenceStore> channel_;
  std::unique_ptr<FileJournal> journal_;
};

class PairingStore {
 public:
  explicit PairingStore(std::string directory) : directory_(std::move(directory)) {}
  const std::string& directory() const { return directory_; }

  // Errors: already_exists (name taken, or the code was used here before for this role), invalid_argument
  // (name), limit_reached, io. `again`: a code that was used before may be, since new keys are made by a
  // handshake; requires KeySource::handshake.
  Result<> add(const StoredPairing& pairing, bool again = false);
  // Errors: not_found, already_exists while a gateway uses it.
  Result<> remove(std::string_view name);
  Result<std::vector<StoredPairing>> list() const;
  Result<StoredPairing> find(std::string_view name) const;
  // Locks it. Errors: not_found, already_exists when another process has it, refused, io.
  Result<PairingState> open(std::string_view name) const;

 private:
  std::string path(std::string_view name) const { return directory_ + "/" + std::string(name); }
  Result<std::vector<std::string>> used() const;
  std::string directory_;
};

}  // namespace ravine::services
