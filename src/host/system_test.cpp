// Resolver, signals, interfaces and process facts in a real loop.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "host/interfaces.h"
#include "host/process.h"
#include "host/resolver.h"
#include "host/signals.h"

namespace ravine::host {
namespace {

TEST(Resolver, literal_addresses_are_not_looked_up_and_answer_from_the_loop) {
  boost::asio::io_context loop;
  Resolver resolver(loop);
  std::vector<SocketAddress> got;
  resolver.resolve("2001:db8::7", 443, [&](const auto& outcome) { got = outcome.value(); });
  EXPECT_TRUE(got.empty());
  loop.run();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].to_text(), "[2001:db8::7]:443");
}

TEST(Resolver, names_from_the_hosts_file_resolve) {
  boost::asio::io_context loop;
  Resolver resolver(loop);
  std::vector<SocketAddress> got;
  resolver.resolve("localhost", 80, [&](const auto& outcome) {
    if (outcome) got = outcome.value();
  });
  loop.run_for(std::chrono::seconds(10));
  ASSERT_FALSE(got.empty());
  for (const SocketAddress& address : got) EXPECT_TRUE(address.ip.is_loopback() && address.port == 80);
}

TEST(Resolver, bad_names_and_too_many_names_are_refused) {
  boost::asio::io_context loop;
  Resolver resolver(loop);
  std::vector<ErrorKind> kinds;
  resolver.resolve(std::string(254, 'a'), 80,
                   [&](const auto& outcome) { kinds.push_back(outcome.error().kind); });
  resolver.resolve("", 80, [&](const auto& outcome) { kinds.push_back(outcome.error().kind); });
  loop.run();
  EXPECT_EQ(kinds, (std::vector<ErrorKind>{ErrorKind::invalid_argument, ErrorKind::invalid_argument}));
}

TEST(Resolver, no_call_comes_after_its_end) {
  boost::asio::io_context loop;
  int calls = 0;
  {
    Resolver resolver(loop);
    resolver.resolve("localhost", 80, [&](const auto&) { ++calls; });
    resolver.resolve("127.0.0.1", 80, [&](const auto&) { ++calls; });
  }
  loop.run_for(std::chrono::seconds(10));
  EXPECT_EQ(calls, 0);
}

TEST(SignalWatch, signals_become_calls) {
  boost::asio::io_context loop;
  std::vector<Signal> seen;
  auto watch = std::make_unique<SignalWatch>(loop, [&](Signal signal) { seen.push_back(signal); });
  std::raise(SIGHUP);
  while (seen.empty()) loop.run_one_for(std::chrono::seconds(5));
  std::raise(SIGTERM);
  while (seen.size() < 2) loop.run_one_for(std::chrono::seconds(5));
  EXPECT_EQ(seen, (std::vector<Signal>{Signal::hang_up, Signal::terminate}));
  watch.reset();
  loop.run();  // nothing keeps the loop alive
}

TEST(Interfaces, loopback_is_listed_and_not_usable_for_peers) {
  const auto addresses = list_interface_addresses();
  ASSERT_TRUE(addresses.ok());
  const auto loopback = std::find_if(addresses->begin(), addresses->end(), [](const auto& entry) {
    return entry.address == IpAddress::v4({127, 0, 0, 1});
  });
  ASSERT_NE(loopback, addresses->end());
  EXPECT_TRUE(loopback->loopback);
  EXPECT_FALSE(loopback->is_usable());
  EXPECT_EQ(loopback->interface_name, "lo");
  EXPECT_EQ(loopback->interface_index, interface_index("lo"));
  EXPECT_GT(loopback->mtu, 1000u);
}

// Runs `body` in a child with a network namespace of its own; skips without the right to make one.
void in_own_network(int (*body)()) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(::unshare(CLONE_NEWNET) == 0 ? body() : 77);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs the right to make a network namespace";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(InterfaceWatch, a_burst_of_changes_is_one_report_with_the_new_addresses) {
  in_own_network([] {
    boost::asio::io_context loop;
    int reports = 0;
    std::vector<InterfaceAddress> last;
    auto watch = InterfaceWatch::start(loop, [&](const auto& addresses) {
      ++reports;
      last = addresses;
    });
    if (!watch) return 1;
    if (std::system("ip link set lo up && ip link add rv-d-a type veth peer name rv-d-b && ip link set "
                    "rv-d-b up && ip address add 192.0.2.7/24 dev rv-d-a && "
                    "ip link set rv-d-a up && ip route add default via 192.0.2.1") != 0)
      return 77;
    const auto begin = std::chrono::steady_clock::now();
    const auto found = [&] {
      return std::any_of(last.begin(), last.end(), [](const InterfaceAddress& entry) {
        return entry.address == IpAddress::v4({192, 0, 2, 7}) && entry.is_usable() && entry.default_route &&
               entry.interface_name == "rv-d-a" && entry.prefix_length == 24;
      });
    };
    while (!found() && std::chrono::steady_clock::now() - begin < std::chrono::seconds(3))
      loop.run_one_for(std::chrono::milliseconds(100));
    if (!found() || reports > 2) return 2;
    if (std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(600)) return 3;
    return 0;
  });
}

TEST(Process, facts_are_plausible) {
  const ProcessFacts facts = process_facts();
  EXPECT_GT(facts.rss_bytes, 1u << 20);
  EXPECT_LE(facts.rss_anon_bytes, facts.rss_bytes);
  EXPECT_GE(facts.open_files, 3u);
  EXPECT_GE(facts.threads, 1u);
  EXPECT_GT(facts.cpu_time.count(), 0);
  const MachineFacts machine = machine_facts();
  EXPECT_GE(machine.cores, 1u);
  EXPECT_GT(machine.memory_bytes, 1u << 26);
  EXPECT_EQ(machine.kernel.substr(0, 6), "Linux ");
}

TEST(ServiceManager, hears_states_where_it_asked_to) {
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(notify_service_manager("READY=1").ok());
  const std::string path =
      (std::filesystem::temp_directory_path() / ("ravine-notify-" + std::to_string(::getpid()))).string();
  const int listener = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  EXPECT_TRUE(notify_service_manager("READY=1").ok());
  char got[32] = {};
  EXPECT_EQ(::recv(listener, got, sizeof got, MSG_DONTWAIT), 7);
  EXPECT_STREQ(got, "READY=1");
  ::close(listener);
  std::filesystem::remove(path);
  EXPECT_FALSE(notify_service_manager("READY=1").ok());
  ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace ravine::host
