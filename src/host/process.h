// Facts about this process and machine, and what the service manager wants to hear.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace ravine::host {

struct ProcessFacts {
  std::uint64_t rss_bytes = 0;       // resident, with shared libraries
  std::uint64_t rss_anon_bytes = 0;  // resident and private: what we allocated
  Duration cpu_time{0};              // user and system, all threads
  std::uint64_t open_files = 0;
  std::uint64_t threads = 0;
};
ProcessFacts process_facts();
Duration thread_cpu_time();  // of the calling thread

struct MachineFacts {
  std::string kernel;  // "Linux 6.1.0-18-amd64"
  std::string cpu;     // model name, or empty
  unsigned cores = 0;  // that this process may run on
  std::uint64_t memory_bytes = 0;
};
MachineFacts machine_facts();
std::string host_name();

// Pins the calling thread to one core.
Result<> pin_to_core(unsigned core);

// Raises the limit of open files to what the system lets us; returns it.
std::uint64_t raise_open_file_limit();

// Keeps secrets out of core dumps and away from other processes of the same user.
void forbid_core_dumps();

// Tells systemd (or whoever set NOTIFY_SOCKET) a state such as "READY=1"; nothing when nobody asked.
Result<> notify_service_manager(std::string_view state);

}  // namespace ravine::host
