#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <cerrno>
#include <optional>

#include "host/clock.h"
#include "host/deadline_timer.h"
#include "host/os_error.h"
#include "services/lab/link_relay.h"
#include "services/socket.h"

namespace ravine::services {
namespace {

// A pseudo terminal: our end, and the other one held open, so that programs may come and go.
struct Terminal {
  std::optional<Socket> ours;
  std::optional<Socket> theirs;
  std::string path;
};

Result<Terminal> open_terminal(boost::asio::io_context& loop) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) return host::os_error(errno, "cannot make a pseudo terminal");
  Terminal terminal;
  terminal.ours.emplace(adopt(loop, master));
  std::array<char, 128> name{};
  if (::grantpt(master) != 0 || ::unlockpt(master) != 0 || ::ptsname_r(master, name.data(), name.size()) != 0)
    return host::os_error(errno, "cannot make a pseudo terminal");
  terminal.path = name.data();
  const int slave = ::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return host::os_error(errno, "cannot open the pseudo terminal " + terminal.path);
  terminal.theirs.emplace(adopt(loop, slave));
  termios settings{};
  if (::tcgetattr(slave, &settings) != 0) return host::os_error(errno, "cannot set up " + terminal.path);
  ::cfmakeraw(&settings);
  if (::tcsetattr(slave, TCSANOW, &settings) != 0)
    return host::os_error(errno, "cannot set up " + terminal.path);
  return terminal;
}

}  // namespace

struct SerialRelay::Impl : std::enable_shared_from_this<SerialRelay::Impl> {
  Impl(lab::LinkProfile upward, lab::LinkProfile downward, std::uint64_t seed, OnParcel hook)
      : on_parcel(std::move(hook)),
        start(host::monotonic_now()),
        up(upward, seed * 2, start),
        down(downward, seed * 2 + 1, start) {}

  void wait(bool upward) {
    side(upward).ours->async_wait(Socket::wait_read,
                                  [weak = weak_from_this(), upward](boost::system::error_code error) {
                                    const auto self = weak.lock();
                                    if (error || !self) return;
                                    self->take(upward);
                                    self->wait(upward);
                                  });
  }
  Terminal& side(bool near) { return near ? near_end : far_end; }

  void take(bool upward) {
    std::array<std::uint8_t, 4096> buffer;
    boost::system::error_code error;
    const std::size_t got = side(upward).ours->read_some(boost::asio::buffer(buffer), error);
    if (error) return;
    Bytes& piece = upward ? up_piece : down_piece;
    for (const std::uint8_t byte : ByteView(buffer).first(got)) {
      piece.push_back(byte);
      if (byte == 0 || piece.size() == kPiece) offer(upward, piece);
    }
    deliver();
  }
  void offer(bool upward, Bytes& piece) {
    const Instant now = host::monotonic_now();
    lab::EmulatedLink& link = upward ? up : down;
    const lab::Fate fate = link.send(now, {0, piece});
    if (on_parcel) on_parcel({upward, piece, piece.size() + link.profile().overhead_bytes, fate, now});
    piece.clear();
  }
  // A terminal whose buffer is full loses the rest, as a UART does.
  void put(bool upward, const Bytes& bytes) {
    const int descriptor = side(!upward).ours->native_handle();
    if (::write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      ++send_failures;
  }
  void deliver() {
    const Instant now = host::monotonic_now();
    while (auto parcel = up.receive(now)) put(true, parcel->bytes);
    while (auto parcel = down.receive(now)) put(false, parcel->bytes);
    timer->arm(std::min(up.next_deadline().at, down.next_deadline().at));
  }

  OnParcel on_parcel;
  Instant start;
  lab::EmulatedLink up, down;
  Terminal near_end, far_end;
  Bytes up_piece, down_piece;
  std::uint64_t send_failures = 0;
  std::unique_ptr<host::DeadlineTimer> timer;
};

Result<std::unique_ptr<SerialRelay>> SerialRelay::start(boost::asio::io_context& loop, lab::LinkProfile up,
                                                        lab::LinkProfile down, std::uint64_t seed,
                                                        OnParcel on_parcel) {
  auto impl = std::make_shared<Impl>(up, down, seed, std::move(on_parcel));
  for (Terminal* end : {&impl->near_end, &impl->far_end}) {
    auto terminal = open_terminal(loop);
    if (!terminal) return terminal.error();
    *end = std::move(*terminal);
  }
  auto timer = host::DeadlineTimer::make(loop, [weak = std::weak_ptr(impl)] {
    if (const auto self = weak.lock()) self->deliver();
  });
  if (!timer) return timer.error();
  impl->timer = std::move(*timer);
  impl->wait(true);
  impl->wait(false);
  return std::unique_ptr<SerialRelay>(new SerialRelay(std::move(impl)));
}

SerialRelay::~SerialRelay() = default;

const std::string& SerialRelay::near_path() const {
  return impl_->near_end.path;
}
const std::string& SerialRelay::far_path() const {
  return impl_->far_end.path;
}
RelayTally SerialRelay::tally() const {
  return {impl_->up.tally(), impl_->down.tally(), 1, 0, impl_->send_failures};
}

}  // namespace ravine::services
