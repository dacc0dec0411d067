// Entering a network by a one-time code, without a running node: a short-lived endpoint on a free port, one
// exchange, and the files of the new membership. Blocking; runs a loop of its own.
#pragma once

#include <functional>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "identity/invite.h"
#include "node/state_dir.h"

namespace ravine::node {

inline constexpr std::string_view kPinnedNetworkName = "paired";

struct JoinOptions {
  std::string directory_name;   // of the network here; empty: its own name
  std::string pair_name;        // pairing: what the other may call us
  std::uint16_t pair_port = 0;  // pairing: where our node will listen
  std::function<void(std::string_view)> progress;
};

struct JoinOutcome {
  std::string network, name, id, address, directory;
  UnixTime not_after;  // pinned: no end
};

// Makes the key here, asks the issuer that the code names, checks the answer and stores it. Errors: refused
// (with the issuer's words), unauthenticated (somebody else answered), unreachable, timed_out,
// already_exists, io.
Result<JoinOutcome> join_by_code(const StateDir& state, const identity::Invite& invite,
                                 const JoinOptions& options, RandomSource& random, Log log);
Result<JoinOutcome> pair_by_code(const StateDir& state, const identity::Invite& code,
                                 const JoinOptions& options, RandomSource& random, Log log);

// Makes the network without CA of this machine, where pairings go; fine when it exists.
Result<> found_pinned_network(const StateDir& state, std::string_view name, UnixTime now,
                              RandomSource& random);

}  // namespace ravine::node
