// Two peers that dial each other at once get two sessions. Both are kept until both are up, then the one that
// the peer with the smaller ID dialled stays; the other drains. docs/protocol.md, "Convergence". Internal to
// this folder.
#pragma once

#include <vector>

#include "session/session_impl.h"

namespace ravine::session {

// True when of two established sessions to one peer `a` is to stay. `own` is our peer ID in that network.
bool stays(const Session::Impl& a, const Session::Impl& b, const identity::PeerId& own);

// Advances the goaway of a superseded session: says it once its streams are done, closes it when both said
// so.
void drain_superseded(Instant now, Session::Impl& session);

}  // namespace ravine::session
