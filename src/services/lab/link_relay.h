// LinkRelay: a UDP relay that behaves like a slow, bad link between its clients and one server. All clients
// share the link; each has a socket of its own towards the server, so that answers find it. SerialRelay: the
// same between two pseudo terminals. Thread rule: the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/address.h"
#include "base/bytes.h"
#include "base/result.h"
#include "lab/emulated_link.h"

namespace ravine::services {

struct RelayOptions {
  SocketAddress listen, to;   // of one family
  lab::LinkProfile up, down;  // up: towards `to`
  std::uint64_t seed = 1;
  std::size_t max_clients = 64;  // beyond it, the one that was silent longest is forgotten
  // Every so often each client gets another port towards `to`, as behind a NAT that rebinds; what comes to
  // the old one is lost. Zero: never.
  Duration rebind{0};
  std::string capture;  // pcap file of what enters the link; empty: none
};

// What enters a link. On a serial line a parcel is a piece between two zero bytes.
struct ParcelEvent {
  bool up = false;
  ByteView bytes;        // valid during the call
  std::size_t size = 0;  // with overhead
  lab::Fate fate = lab::Fate::carried;
  Instant at;
};
using OnParcel = std::function<void(const ParcelEvent&)>;

struct RelayTally {
  lab::LinkTally up, down;
  std::size_t clients = 0;  // seen in all
  std::size_t rebindings = 0;
  std::uint64_t send_failures = 0;  // the kernel took a datagram neither then nor later
};

class LinkRelay {
 public:
  // Errors: already_exists (port taken), invalid_argument (two families), io (capture file).
  static Result<std::unique_ptr<LinkRelay>> start(boost::asio::io_context& loop, RelayOptions options,
                                                  OnParcel on_parcel = {});
  ~LinkRelay();
  SocketAddress address() const;  // as bound
  RelayTally tally() const;
  void set_down(bool down);  // nothing passes while it is

 private:
  struct Impl;
  explicit LinkRelay(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

// Bytes between two pseudo terminals, in pieces that end with a zero byte, as gateways frame them, or after
// kPiece bytes.
class SerialRelay {
 public:
  static constexpr std::size_t kPiece = 256;
  static Result<std::unique_ptr<SerialRelay>> start(boost::asio::io_context& loop, lab::LinkProfile up,
                                                    lab::LinkProfile down, std::uint64_t seed,
                                                    OnParcel on_parcel = {});
  ~SerialRelay();
  const std::string& near_path() const;  // of the terminals that the gateways open
  const std::string& far_path() const;
  RelayTally tally() const;

 private:
  struct Impl;
  explicit SerialRelay(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
