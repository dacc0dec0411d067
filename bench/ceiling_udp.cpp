// Ceilings of plain UDP on loopback.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "bench/ceilings.h"
#include "bench/sockets.h"

namespace ravine::bench {

namespace {

constexpr std::size_t kTrain = 65507;  // largest UDP payload over IPv4

Result<> receive_trains(SharedState& shared, SideState& mine, std::size_t packet_size) {
  Result<Socket> socket = Socket::bound(SOCK_DGRAM);
  if (!socket.ok()) return socket.error();
  socket->set(SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20);
  socket->set(SOL_UDP, UDP_GRO, 1);
  socket->set_receive_timeout_ms(100);
  constexpr std::size_t kBatch = 8;
  std::vector<std::uint8_t> memory(kBatch * 65536);
  std::array<iovec, kBatch> vectors;
  std::array<mmsghdr, kBatch> messages{};
  for (std::size_t i = 0; i < kBatch; ++i) {
    vectors[i] = {memory.data() + i * 65536, 65536};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  mine.port = socket->port();
  mine.ready = true;
  while (!shared.stop) {
    const int got = recvmmsg(socket->fd(), messages.data(), kBatch, MSG_WAITFORONE, nullptr);
    std::uint64_t bytes = 0, packets = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(std::max(got, 0)); ++i) {
      bytes += messages[i].msg_len;
      packets += (messages[i].msg_len + packet_size - 1) / packet_size;
    }
    mine.bytes += bytes;
    mine.packets_received += packets;
  }
  return {};
}

Result<> send_trains(SharedState& shared, SideState& mine, std::size_t packet_size) {
  Result<Socket> socket = Socket::connected(SOCK_DGRAM, shared.sides[0].port);
  if (!socket.ok()) return socket.error();
  socket->set(SOL_SOCKET, SO_SNDBUFFORCE, 32 << 20);
  const std::size_t segments = std::min<std::size_t>(64, kTrain / packet_size);
  socket->set(SOL_UDP, UDP_SEGMENT, static_cast<int>(packet_size));
  const std::vector<std::uint8_t> train(segments * packet_size, 0x5a);
  mine.ready = true;
  while (!shared.stop) {
    for (int i = 0; i < 16; ++i) {
      if (send(socket->fd(), train.data(), train.size(), 0) < 0) {
        if (errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED) continue;
        return Error{ErrorKind::io, fmt::format("UDP send with GSO: {}", std::strerror(errno))};
      }
      mine.packets_sent += segments;
    }
  }
  return {};
}

Result<> echo(SharedState& shared, SideState& mine) {
  Result<Socket> socket = Socket::bound(SOCK_DGRAM);
  if (!socket.ok()) return socket.error();
  socket->set_receive_timeout_ms(100);
  mine.port = socket->port();
  mine.ready = true;
  std::array<std::uint8_t, 2048> buffer;
  while (!shared.stop) {
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t got =
        recvfrom(socket->fd(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) continue;
    sendto(socket->fd(), buffer.data(), static_cast<std::size_t>(got), 0, reinterpret_cast<sockaddr*>(&from),
           size);
  }
  return {};
}

Result<> ping(SharedState& shared, SideState& mine, std::size_t size, unsigned outstanding) {
  Result<Socket> socket = Socket::connected(SOCK_DGRAM, shared.sides[0].port);
  if (!socket.ok()) return socket.error();
  socket->set_receive_timeout_ms(100);
  std::vector<std::uint8_t> bytes(size, 0x5a);
  mine.ready = true;
  for (unsigned i = 1; i < outstanding; ++i) send(socket->fd(), bytes.data(), bytes.size(), 0);
  while (!shared.stop) {
    const std::uint64_t start = now_nanoseconds();
    send(socket->fd(), bytes.data(), bytes.size(), 0);
    if (recv(socket->fd(), bytes.data(), bytes.size(), 0) < 0) continue;
    mine.latency.add(now_nanoseconds() - start);
    mine.operations.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

Result<Window> measure_echo(std::size_t size, unsigned outstanding, double seconds) {
  return measure_pair(
      {.name = "UDP echo", .warm_up = 0.2, .seconds = seconds}, echo,
      [&](SharedState& shared, SideState& mine) { return ping(shared, mine, size, outstanding); });
}

}  // namespace

Result<DatagramCeiling> measure_udp_gso(std::size_t packet_size, double seconds) {
  const Result<Window> window = measure_pair(
      {.name = "raw UDP", .warm_up = 0.2, .seconds = seconds},
      [&](SharedState& shared, SideState& mine) { return receive_trains(shared, mine, packet_size); },
      [&](SharedState& shared, SideState& mine) { return send_trains(shared, mine, packet_size); });
  if (!window.ok()) return window.error();
  const SideWindow &receiver = window->sides[0], &sender = window->sides[1];
  const double received = std::max(receiver.packets_received, 1.0), sent = std::max(sender.packets_sent, 1.0);
  return DatagramCeiling{.gigabits = receiver.bytes * 8e-9 / window->seconds,
                         .million_packets = received * 1e-6 / window->seconds,
                         .send_ns_per_packet = sender.cpu_seconds * 1e9 / sent,
                         .receive_ns_per_packet = receiver.cpu_seconds * 1e9 / received};
}

Result<double> measure_udp_round_trip(std::size_t size, double seconds) {
  const Result<Window> window = measure_echo(size, 1, seconds);
  if (!window.ok()) return window.error();
  return quantile(window->sides[1].latency, 0.5) * 1e-3;
}

Result<double> measure_udp_echoes(std::size_t size, unsigned outstanding, double seconds) {
  const Result<Window> window = measure_echo(size, outstanding, seconds);
  if (!window.ok()) return window.error();
  return window->sides[1].operations / window->seconds;
}

}  // namespace ravine::bench
