// UDP sockets with batches: GRO trains in, GSO trains out, ECN, local address and interface per message.
// The kernel's features are used when it has them and done without when it refuses. Nothing here waits or
// blocks; the caller waits for readiness of descriptor(). Thread rule: one thread per socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/datagram.h"
#include "base/result.h"

namespace ravine::host {

// Failures that tests order, to see the fall-backs.
struct UdpFaults {
  int gso_error = 0;                   // errno that every GSO send gets instead of being tried; 0: none
  int send_error = 0;                  // errno that sends get while `send_error_after` has run out
  std::uint32_t send_error_after = 0;  // sends that still succeed before send_error
};

struct UdpOptions {
  std::uint32_t receive_buffer_bytes = 16u << 20;  // clamped by net.core.rmem_max unless privileged
  std::uint32_t send_buffer_bytes = 8u << 20;      // likewise wmem_max
  bool gro = true;
  bool gso = true;
  std::uint32_t mark = 0;  // SO_MARK (needs CAP_NET_ADMIN); 0: none
  std::string device;      // SO_BINDTODEVICE; empty: any
  UdpFaults faults;
};

struct UdpCounters {
  std::uint64_t receive_calls = 0, messages = 0, empty = 0, truncated = 0;
  std::uint64_t send_calls = 0, packets_sent = 0, bytes_sent = 0;
  std::uint64_t blocked = 0, send_errors = 0, gso_refused = 0, too_large = 0;
};

// Where received bytes lie. Slots fill in turn; rewind() frees all of them.
class ReceiveBuffers {
 public:
  // A GRO train is at most 64 KiB. Memory is touched only as messages arrive.
  explicit ReceiveBuffers(std::size_t slots = 32);
  ~ReceiveBuffers();
  ReceiveBuffers(const ReceiveBuffers&) = delete;
  ReceiveBuffers& operator=(const ReceiveBuffers&) = delete;

  void rewind() { used_ = 0; }  // requires: nobody refers to received bytes any more
  std::size_t free_slots() const { return slots_ - used_; }

 private:
  friend class UdpSocket;
  struct Arrays;
  std::size_t slots_;
  std::size_t used_ = 0;
  std::unique_ptr<std::uint8_t[]> memory_;
  std::unique_ptr<Arrays> arrays_;
  std::vector<Received> received_;
};

struct ReceiveRound {
  std::span<const Received> datagrams;  // valid until the next receive; their bytes until rewind()
  std::size_t messages = 0;  // taken from the kernel, with those that were empty or truncated: for budgets
  bool more = false;         // the kernel probably holds more
};

// One socket of one family; IPv6 ones take no IPv4.
class UdpSocket {
 public:
  // Binds to `address`, whose family decides the socket's; port 0 takes a free one.
  // Errors: already_exists (port taken), unsupported (no such family or address on this machine), io.
  static Result<UdpSocket> open(const SocketAddress& address, const UdpOptions& options = {});
  UdpSocket(UdpSocket&& other) noexcept;
  UdpSocket& operator=(UdpSocket&& other) noexcept;
  ~UdpSocket();

  int descriptor() const { return descriptor_; }
  const SocketAddress& local_address() const { return local_; }  // as bound
  const UdpCounters& counters() const { return counters_; }
  bool has_gro() const { return gro_; }

  // Takes at most `max_messages` messages, and no more than buffers.free_slots().
  ReceiveRound receive(ReceiveBuffers& buffers, std::size_t max_messages);

  enum class SendOutcome : std::uint8_t { sent, blocked, too_large, gso_refused, failed };
  struct Piece {
    const std::uint8_t* data;
    std::size_t size;
  };
  // One datagram, or with `segment_size` > 0 a train that the kernel cuts every segment_size bytes.
  // `blocked`: nothing left, try again when the socket is writable. `gso_refused`: send the segments one by
  // one.
  SendOutcome send(const Route& route, std::uint8_t ecn, std::span<const Piece> pieces,
                   std::uint32_t segment_size);

 private:
  friend class UdpSender;
  UdpSocket() = default;
  Result<> configure(const UdpOptions& options);
  void close();
  SendOutcome classify(int error, bool train);

  int descriptor_ = -1;
  SocketAddress local_;
  bool gro_ = false;
  bool gso_ = false;
  UdpFaults faults_;
  UdpCounters counters_;
};

}  // namespace ravine::host
