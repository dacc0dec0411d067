// Names of peers and networks, and the host names under `.fuse` that mean them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ravine::identity {

// 1–63 characters of [a-z0-9-], no hyphen first or last, and not the look of a peer ID (16 characters of
// base32). Networks follow the same rule. Group names too.
bool is_valid_node_name(std::string_view name);

// A parsed host name: `<16 characters>.fuse`, `<name>.fuse`, `<name>.<network>.fuse` or `<16
// characters>.<network>.fuse`.
struct FuseName {
  enum class Kind { peer_id, name };
  Kind kind = Kind::name;
  std::string peer;     // lower case: the 16 characters, or the name
  std::string network;  // lower case; empty: whichever network knows the peer

  // Any case, one trailing dot allowed. nullopt for every host that is not exactly one of the four forms.
  static std::optional<FuseName> parse(std::string_view host);
  std::string to_text() const;
};

// Whether a host name ends in ".fuse", well formed or not: such names never go to the system's resolver.
bool is_under_fuse(std::string_view host);

}  // namespace ravine::identity
