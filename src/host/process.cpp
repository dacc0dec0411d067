#include "host/process.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "host/file.h"
#include "host/os_error.h"

namespace ravine::host {
namespace {

// The number after "Name:" in one of the kernel's key-value files; 0 when it is not there.
std::uint64_t value_of(std::string_view text, std::string_view name) {
  for (std::size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    if (at != 0 && text[at - 1] != '\n') continue;
    const std::size_t digit = text.find_first_of("0123456789", at + name.size());
    if (digit == std::string_view::npos) return 0;
    std::uint64_t value = 0;
    std::from_chars(text.data() + digit, text.data() + text.size(), value);
    return value;
  }
  return 0;
}

std::string read_text(const std::string& path) {
  const auto content = read_file(path, 1u << 20);
  return content ? std::string(as_text(*content)) : std::string();
}

Duration read_cpu_clock(clockid_t id) {
  timespec used{};
  ::clock_gettime(id, &used);
  return std::chrono::seconds{used.tv_sec} + std::chrono::nanoseconds{used.tv_nsec};
}

}  // namespace

ProcessFacts process_facts() {
  ProcessFacts facts;
  const std::string status = read_text("/proc/self/status");
  facts.rss_bytes = value_of(status, "VmRSS:") * 1024;
  facts.rss_anon_bytes = value_of(status, "RssAnon:") * 1024;
  facts.threads = value_of(status, "Threads:");
  facts.cpu_time = read_cpu_clock(CLOCK_PROCESS_CPUTIME_ID);
  const std::unique_ptr<DIR, int (*)(DIR*)> files(::opendir("/proc/self/fd"), ::closedir);
  if (files != nullptr)
    while (const dirent* entry = ::readdir(files.get())) facts.open_files += entry->d_name[0] != '.';
  return facts;
}

Duration thread_cpu_time() {
  return read_cpu_clock(CLOCK_THREAD_CPUTIME_ID);
}

MachineFacts machine_facts() {
  MachineFacts facts;
  utsname name{};
  if (::uname(&name) == 0) facts.kernel = fmt::format("{} {}", name.sysname, name.release);
  const std::string cpus = read_text("/proc/cpuinfo");
  if (const std::size_t at = cpus.find("model name"); at != std::string::npos) {
    const std::size_t colon = cpus.find(": ", at), end = cpus.find('\n', at);
    if (colon != std::string::npos && colon < end) facts.cpu = cpus.substr(colon + 2, end - colon - 2);
  }
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0)
    facts.cores = static_cast<unsigned>(CPU_COUNT(&allowed));
  facts.memory_bytes = value_of(read_text("/proc/meminfo"), "MemTotal:") * 1024;
  return facts;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

Result<> pin_to_core(unsigned core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0)
    return os_error(errno, fmt::format("pin to core {}", core));
  return {};
}

std::uint64_t raise_open_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlimit wanted{limit.rlim_max, limit.rlim_max};
  return ::setrlimit(RLIMIT_NOFILE, &wanted) == 0 ? wanted.rlim_cur : limit.rlim_cur;
}

void forbid_core_dumps() {
  ::prctl(PR_SET_DUMPABLE, 0);
}

Result<> notify_service_manager(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || path[0] == '\0') return {};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t size = std::strlen(path);
  if (size >= sizeof address.sun_path)
    return Error{ErrorKind::invalid_argument, fmt::format("NOTIFY_SOCKET {}: path too long", path)};
  std::memcpy(address.sun_path, path, size);
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract name
  const int descriptor = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return os_error(errno, "open a socket to the service manager");
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  const ssize_t sent = ::sendto(descriptor, state.data(), state.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&address), length);
  const int error = errno;
  ::close(descriptor);
  if (sent < 0) return os_error(error, fmt::format("tell the service manager at {}", path));
  return {};
}

}  // namespace ravine::host
