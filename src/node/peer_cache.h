// PeerCache: where peers were last seen, kept over restarts in one small JSON file. Losing it costs a few
// dials; it is never trusted for anything but addresses to try.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "identity/peer_id.h"
#include "services/peers.h"

namespace ravine::node {

inline constexpr std::size_t kMaxCachedPeers = 1000;

struct CachedPeer {
  std::string network;
  identity::PeerId id;
  std::string name;
  std::vector<std::string> groups;
  std::vector<SocketAddress> addresses;  // newest first
  friend bool operator==(const CachedPeer&, const CachedPeer&) = default;
};

class PeerCache {
 public:
  // A missing or damaged file is an empty cache; the latter is told through `fault`.
  static PeerCache load(const std::string& path, std::string* fault);
  const std::vector<CachedPeer>& peers() const { return peers_; }
  // Writes when something changed since the last load or store.
  Result<> store(const std::string& path, std::vector<CachedPeer> peers);

 private:
  std::vector<CachedPeer> peers_;
};

}  // namespace ravine::node
