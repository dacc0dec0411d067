// Who may use an exposed port. Default deny: an empty list allows nobody.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "identity/verify.h"

namespace ravine::identity {

inline constexpr std::size_t kMaxAllowEntries = 1024;

class AllowList {
 public:
  AllowList() = default;
  // Entries: a node name, a 16-character peer ID, "group:<name>", or "*" for every member.
  // Errors: invalid_argument naming the entry; limit_reached above kMaxAllowEntries.
  static Result<AllowList> parse(std::span<const std::string> entries);

  bool allows(const VerifiedPeer& peer) const;
  const std::vector<std::string>& entries() const { return entries_; }  // as given, lower case

 private:
  std::vector<std::string> entries_;
  std::vector<std::string> names_, groups_;
  std::vector<std::array<std::uint8_t, kShortPeerIdSize>> ids_;
  bool everyone_ = false;
};

}  // namespace ravine::identity
