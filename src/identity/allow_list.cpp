#include "identity/allow_list.h"

#include <fmt/format.h>

#include <algorithm>

#include "identity/fuse_name.h"

namespace ravine::identity {
namespace {

constexpr std::string_view kGroup = "group:";

template <class List, class Item>
bool contains(const List& list, const Item& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

Result<AllowList> AllowList::parse(std::span<const std::string> entries) {
  if (entries.size() > kMaxAllowEntries)
    return Error{ErrorKind::limit_reached, fmt::format("allow list: more than {} entries", kMaxAllowEntries)};
  AllowList list;
  for (std::string entry : entries) {
    for (char& c : entry)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const std::string_view text = entry;
    if (text == "*") {
      list.everyone_ = true;
    } else if (text.starts_with(kGroup) && is_valid_node_name(text.substr(kGroup.size()))) {
      list.groups_.emplace_back(text.substr(kGroup.size()));
    } else if (const auto id = parse_peer_id_text(text)) {
      list.ids_.push_back(*id);
    } else if (is_valid_node_name(text)) {
      list.names_.push_back(entry);
    } else {
      return Error{
          ErrorKind::invalid_argument,
          fmt::format("allow list: \"{}\" is none of a node name, a 16-character peer ID, \"group:NAME\" or "
                      "\"*\"",
                      entry)};
    }
    list.entries_.push_back(std::move(entry));
  }
  return list;
}

bool AllowList::allows(const VerifiedPeer& peer) const {
  if (everyone_) return true;
  if (!peer.name.empty() && contains(names_, peer.name)) return true;
  for (const auto& group : peer.groups)
    if (contains(groups_, group)) return true;
  const auto matches = [&](const PeerId& id) {
    return std::any_of(ids_.begin(), ids_.end(), [&](const auto& wanted) {
      return std::equal(wanted.begin(), wanted.end(), id.bytes.begin());
    });
  };
  return matches(peer.id) || std::any_of(peer.former_ids.begin(), peer.former_ids.end(), matches);
}

}  // namespace ravine::identity
