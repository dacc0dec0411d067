// Running a node from the command line: flags over configuration, in the foreground or as a process of its
// own.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/config.h"

namespace ravine::cli {

struct Context;

// What `ravine up` takes; empty means "as configured".
struct UpFlags {
  std::string config;  // -c FILE; empty: STATE/ravine.toml when it exists
  std::string port;    // a number; text, so that "not given" differs from 0
  std::string name;
  std::vector<std::string> listen;
  std::vector<std::string> networks;  // NAME=DIRECTORY
  std::vector<std::string> peers;     // NAME=ADDRESS[,ADDRESS…]
  std::vector<std::string> exposes;   // PORT=TO[=ALLOW[,ALLOW…]], PORT/udp=…
  std::vector<std::string> forwards;  // LISTEN=PEER:PORT, udp:LISTEN=PEER:PORT
  bool keep = false;                  // hold sessions to --peer
  std::string proxy;
  bool no_proxy = false;
  std::string metrics;
  std::string log_level, log_format, log_file;
  std::string congestion, protection;
  bool detach = false;
};

// The configuration file, if any, with the flags over it. Errors name the file's line or the flag.
Result<node::Config> make_config(const Context& context, const UpFlags& flags);

// Runs until it is told to stop; returns the exit code.
int run_in_foreground(const Context& context, const UpFlags& flags);
// Starts a process of its own and waits until it serves (or failed): its process ID. Its log goes to
// STATE/ravine.log. An error's exit code is that of the kind.
Result<int> start_in_background(const Context& context, const UpFlags& flags);

}  // namespace ravine::cli
