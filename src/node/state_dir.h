// StateDir: where a node keeps what has to survive it, and the names of the files in there. Everything is
// written atomically, so a node that is killed at any moment loses nothing but its connections.
//
//   lock                 held while a node or a `ravine ca` command works on the directory
//   ravine.toml          configuration that `ravine ca init` and `ravine join` write and `ravine up` reads by
//   default clock                floor of the wall clock endpoint.secret      keys of stateless resets and
//   tokens, so that peers notice a restart at once peers.json           addresses learnt from sessions
//   invites              outstanding invitations and pairings
//   networks/NAME/       ca.crt cert.crt key.pem network.secret revocation.list crosses.crt member.json
//   pinned.json ca/                  root.crt root.key issuer.crt issuer.key register: the authority, on the
//   machine that has one
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace ravine::node {

// $XDG_STATE_HOME/ravine, ~/.local/state/ravine, or /var/lib/ravine for root.
std::string default_state_directory();
// Of the default state directory: $XDG_RUNTIME_DIR/ravine/control.sock, or /run/ravine/control.sock for root.
// Of another one (or without a run-time directory): control.sock inside it, so that several nodes can share a
// machine.
std::string default_control_path(const std::string& state_directory);

class StateDir {
 public:
  explicit StateDir(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string lock() const { return path_ + "/lock"; }
  std::string config() const { return path_ + "/ravine.toml"; }
  std::string clock() const { return path_ + "/clock"; }
  std::string endpoint_secret() const { return path_ + "/endpoint.secret"; }
  std::string peers() const { return path_ + "/peers.json"; }
  std::string invites() const { return path_ + "/invites"; }
  std::string networks() const { return path_ + "/networks"; }
  std::string network(std::string_view name) const { return networks() + "/" + std::string(name); }
  std::string ca() const { return path_ + "/ca"; }
  // Makes the directory with mode 0700. Errors: refused when others may write there, io.
  Result<> make() const;

 private:
  std::string path_;
};

}  // namespace ravine::node
