#include "node/peer_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "host/file.h"

namespace ravine::node {

namespace json = boost::json;

namespace {

constexpr std::size_t kMaxFile = 4u << 20;  // bytes

std::optional<CachedPeer> from_json(const json::value& value) {
  const auto* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  const auto text = [&](std::string_view key) -> std::string_view {
    const auto* field = object->if_contains(key);
    const auto* string = field != nullptr ? field->if_string() : nullptr;
    return string != nullptr ? std::string_view(*string) : std::string_view();
  };
  const auto texts = [&](std::string_view key) {
    std::vector<std::string> out;
    const auto* field = object->if_contains(key);
    const auto* list = field != nullptr ? field->if_array() : nullptr;
    for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
      if (const auto* string = (*list)[i].if_string()) out.emplace_back(*string);
    }
    return out;
  };
  CachedPeer peer;
  const auto id = decode_hex(text("id"));
  if (!id || id->size() != peer.id.bytes.size()) return std::nullopt;
  std::ranges::copy(*id, peer.id.bytes.begin());
  peer.network = text("network");
  peer.name = text("name");
  peer.groups = texts("groups");
  for (const std::string& address : texts("addresses")) {
    if (const auto parsed = SocketAddress::parse(address)) peer.addresses.push_back(*parsed);
  }
  return peer;
}

}  // namespace

PeerCache PeerCache::load(const std::string& path, std::string* fault) {
  PeerCache cache;
  auto bytes = host::read_file(path, kMaxFile);
  if (!bytes) {
    if (bytes.error().kind != ErrorKind::not_found && fault != nullptr) *fault = bytes.error().message;
    return cache;
  }
  boost::system::error_code code;
  const json::value root = json::parse(as_text(*bytes), code);
  const auto* list = root.if_array();
  if (code || list == nullptr) {
    if (fault != nullptr) *fault = fmt::format("{}: is damaged; starting without it", path);
    return cache;
  }
  for (const json::value& entry : *list) {
    if (cache.peers_.size() >= kMaxCachedPeers) break;
    if (auto peer = from_json(entry)) cache.peers_.push_back(std::move(*peer));
  }
  return cache;
}

Result<> PeerCache::store(const std::string& path, std::vector<CachedPeer> peers) {
  if (peers.size() > kMaxCachedPeers) peers.resize(kMaxCachedPeers);
  if (peers == peers_) return {};
  json::array root;
  for (const CachedPeer& peer : peers) {
    json::array addresses;
    for (const SocketAddress& address : peer.addresses) addresses.emplace_back(address.to_text());
    root.push_back({{"network", peer.network},
                    {"id", encode_hex(peer.id.view())},
                    {"name", peer.name},
                    {"groups", json::array(peer.groups.begin(), peer.groups.end())},
                    {"addresses", std::move(addresses)}});
  }
  auto written = host::write_file(path, as_bytes(json::serialize(root)), host::FileMode::owner_only);
  if (written) peers_ = std::move(peers);
  return written;
}

}  // namespace ravine::node
