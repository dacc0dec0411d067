#include "node/state_dir.h"

#include <unistd.h>

#include <cstdlib>

#include "host/file.h"

namespace ravine::node {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::string default_state_directory() {
  if (::geteuid() == 0) return "/var/lib/ravine";
  if (const std::string state = environment("XDG_STATE_HOME"); state.starts_with('/'))
    return state + "/ravine";
  return environment("HOME") + "/.local/state/ravine";
}

std::string default_control_path(const std::string& state_directory) {
  if (state_directory == default_state_directory()) {
    if (::geteuid() == 0) return "/run/ravine/control.sock";
    if (const std::string run = environment("XDG_RUNTIME_DIR"); run.starts_with('/'))
      return run + "/ravine/control.sock";
  }
  return state_directory + "/control.sock";
}

Result<> StateDir::make() const {
  if (auto made = host::make_private_directory(path_); !made) return made;
  return host::make_private_directory(networks());
}

}  // namespace ravine::node
