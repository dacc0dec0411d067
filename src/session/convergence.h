// Two peers that dial each other at once get two sessions. Both are kept until both sides have both, then the
// one that the peer with the smaller ID dialled stays; the other drains. docs/protocol.md, "Convergence".
// Invariants: goaway is said on a session only while another one is established here; a session ends only
// after both sides said it, so the other one is established on both. Internal to this folder.
#pragma once

#include <vector>

#include "session/session_impl.h"

namespace ravine::session {

// True when of two established sessions to one peer `a` is to stay. `own` is our peer ID in that network.
bool stays(const Session::Impl& a, const Session::Impl& b, const identity::PeerId& own);

// Decides among all sessions to one peer, because `newest` was established or the peer said goaway on it.
void converge(Instant now, const Session::Impl& newest, const std::vector<Session::Impl*>& all,
              const identity::PeerId& own);

// A session to this peer ended: of those that were to make way, one stays after all when no other is left.
void revive(const std::vector<Session::Impl*>& all);

// Advances the goaway of a superseded session: says it once its streams are done, closes it when both said
// so.
void drain_superseded(Instant now, Session::Impl& session);

}  // namespace ravine::session
