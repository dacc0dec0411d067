// Sends transmit batches: gathers packets of one (route, ECN, size) into trains, picks the socket of each,
// keeps the remainder when the kernel has no room, and falls back to single packets where trains are refused.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/datagram.h"
#include "host/udp.h"

namespace ravine::host {

inline constexpr std::size_t kMaxTrainPackets = 64;   // UDP_MAX_SEGMENTS of the oldest kernels with GSO
inline constexpr std::size_t kMaxTrainBytes = 65000;  // below what fits one IP packet

// Packets of one train, chained through the plan in the order of the batch.
struct Train {
  std::uint32_t first = 0;  // index of a packet
  std::uint32_t last = 0;
  std::uint32_t packets = 0;
  std::uint32_t bytes = 0;
  std::uint32_t segment_size = 0;
};

// Order in which a batch leaves. Packets of one route and ECN keep their order; trains of different routes
// may pass each other. A packet shorter than its train's segment ends the train.
class TrainPlan {
 public:
  void make(const TransmitBatch& batch);
  std::span<const Train> trains() const { return trains_; }
  std::uint32_t next(std::uint32_t packet) const { return next_[packet]; }  // within one train

 private:
  std::vector<Train> trains_;
  std::vector<std::uint32_t> next_;
  std::vector<std::uint32_t> open_;  // by route × 4 + ECN: index of the open train + 1
};

class UdpSender {
 public:
  struct TooLarge {
    Route route;
    std::size_t size = 0;  // UDP payload bytes that the outgoing interface refused
  };

  // Starts on `batch`, which has to stay as it is until done() is true. Requires done().
  void start(const TransmitBatch& batch);
  // Sends what the sockets take. Returns the index of the socket whose writability to wait for, or -1 when
  // done.
  int send(std::span<UdpSocket> sockets);
  bool done() const { return batch_ == nullptr; }
  void drop_rest() { batch_ = nullptr; }
  // Filled by send(); the caller clears it.
  std::vector<TooLarge>& too_large() { return too_large_; }

 private:
  UdpSocket::SendOutcome send_train(UdpSocket& socket, const Train& train);
  UdpSocket::SendOutcome send_singly(UdpSocket& socket, const Train& train);
  std::uint16_t& refusals(const Route& route);

  const TransmitBatch* batch_ = nullptr;
  TrainPlan plan_;
  std::size_t position_ = 0;  // train being sent
  std::uint32_t single_ = 0;  // packets of it that left singly
  bool singly_ = false;       // this train goes packet by packet
  bool refused_ = false;      // because the kernel refused it as a whole
  std::vector<UdpSocket::Piece> pieces_;
  std::vector<TooLarge> too_large_;
  // Trains that still go singly, by hash of the remote address: a refusal belongs to the outgoing device.
  std::array<std::uint16_t, 64> refusals_{};
};

}  // namespace ravine::host
