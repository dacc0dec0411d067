// Paired: one pairing's keys, link and gateway core as one machine: makes the channel from what the store
// has, shakes hands when it has none or the other side lost its own, and puts a new core in place of the old
// one when keys are new. Sans-I/O but for the store. Internal to services/gateway.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "gateway/link/thin_link.h"
#include "gateway/security/agreement.h"
#include "services/gateway/store.h"

namespace ravine::services {

// A SequenceStore that forgets: for channels that only try whether a frame opens.
class NullStore final : public gateway::security::SequenceStore {
 public:
  Result<> persist(ByteView) override { return {}; }
};

// What does not depend on which core it is.
class PairedKeys {
 public:
  using Security = gateway::security::SecureChannel::Options;
  PairedKeys(PairingState state, Security security, double rate_bps, RandomSource& random);

  // The channel that is to be used, when there is one without a handshake. Errors: a damaged or unreadable
  // state, a full disk.
  Result<std::optional<gateway::security::SecureChannel>> first_channel();
  // The channel of new keys, durably in place of the old one; the journal is emptied, since its numbers are
  // of the old one.
  Result<gateway::security::SecureChannel> next_channel(const gateway::security::GatewaySecret& secret);

  // Whether keys of a handshake that nothing proved yet open this frame.
  std::optional<gateway::security::GatewaySecret> match_candidate(ByteView datagram);
  void add_candidate(const gateway::security::GatewaySecret& secret);
  bool has_candidate(const gateway::security::ConnectionId& id) const;

  PairingState& state() { return state_; }
  const PairingState& state() const { return state_; }
  gateway::security::Agreement& agreement() { return agreement_; }
  const gateway::security::Agreement& agreement() const { return agreement_; }
  gateway::security::Role role() const { return state_.pairing().role; }

 private:
  struct Candidate {
    gateway::security::GatewaySecret secret;
    gateway::security::SecureChannel probe;
  };
  PairingState state_;
  Security security_;
  RandomSource* random_;
  gateway::security::Agreement agreement_;
  std::unique_ptr<NullStore> null_ = std::make_unique<NullStore>();
  std::deque<Candidate> candidates_;
};

template <class Core>
class Paired {
 public:
  struct Parts {
    gateway::link::LinkOptions link;
    std::function<gateway::link::Coders()> make_coders;
    std::function<Core(gateway::link::ThinLink)> make_core;
    Duration silence = 60s;
  };
  Paired(PairedKeys keys, Parts parts) : keys_(std::move(keys)), parts_(std::move(parts)) {}

  Result<> start(Instant now, const SocketAddress& peer) {
    peer_ = peer;
    address_proved_ = peer.port != 0;
    auto channel = keys_.first_channel();
    if (!channel) return channel.error();
    if (*channel) {
      place(now, std::move(**channel));
    } else if (keys_.role() == gateway::security::Role::near) {
      keys_.agreement().begin(now, std::nullopt);
    }
    return {};
  }

  void set_parts(Parts parts) { parts_ = std::move(parts); }  // before start()

  Core* core() { return core_ ? &*core_ : nullptr; }
  const Core* core() const { return core_ ? &*core_ : nullptr; }
  PairedKeys& keys() { return keys_; }
  const PairedKeys& keys() const { return keys_; }
  const SocketAddress& peer() const { return core_ ? core_->link().peer() : peer_; }
  void set_peer(const SocketAddress& peer) {
    peer_ = peer;
    address_proved_ = true;
    if (core_) core_->link().set_peer(peer);
  }
  // The core is about to be dropped for one with new keys: nothing under way in it will be answered.
  std::function<void()> on_replace;
  std::uint64_t handshakes() const { return handshakes_; }
  std::uint64_t store_failures() const { return store_failures_; }
  const std::string& last_error() const { return last_error_; }
  Instant last_heard() const { return last_heard_; }  // never() before the first authentic frame
  // Since when something is due from the other side and nothing came; never() while nothing is due.
  Instant silent_since() const { return silent_since_; }

  bool has_id(const gateway::security::ConnectionId& id) const {
    return id == keys_.agreement().handshake_id() || keys_.has_candidate(id) ||
           (core_ && core_->link().channel().connection_id() == id);
  }

  void handle_datagram(Instant now, const SocketAddress& source, ByteView datagram) {
    const auto frame = gateway::security::parse_frame(datagram);
    if (frame && frame->handshake) return handle_handshake(now, source, *frame);
    if (const auto secret = frame ? keys_.match_candidate(datagram) : std::nullopt) replace(now, *secret);
    if (!core_) return;
    open_from(now, source, datagram);
    observe(now);
  }

  void handle_timeout(Instant now) {
    if (core_) core_->handle_timeout(now);
    observe(now);
    if (keys_.role() != gateway::security::Role::near || !core_ || ask_at_ > now) return;
    keys_.agreement().begin(now, core_->link().channel().connection_id());
    ask_at_ = Instant::never();
  }

  std::optional<gateway::link::LinkTransmit> poll_transmit(Instant now) {
    if (reply_) return std::exchange(reply_, std::nullopt);
    if (peer().port == 0) return std::nullopt;
    if (auto message = keys_.agreement().poll_transmit(now))
      return gateway::link::LinkTransmit{peer(), std::move(*message)};
    if (!core_) return std::nullopt;
    auto transmit = core_->poll_transmit(now);
    observe(now);
    return transmit;
  }

  Deadline next_deadline() const {
    Deadline deadline;
    if (peer().port != 0) deadline.earlier(keys_.agreement().next_deadline(), "handshake");
    if (core_) {
      const Deadline own = core_->next_deadline();
      deadline.earlier(own.at, own.reason);
      deadline.earlier(ask_at_, "silence");
    }
    return deadline;
  }

 private:
  void place(Instant now, gateway::security::SecureChannel channel) {
    core_.emplace(parts_.make_core(gateway::link::ThinLink(
        parts_.link, std::move(channel), parts_.make_coders(), keys_.state().journal(), peer_)));
    frames_seen_ = 0;
    silent_since_ = ask_at_ = Instant::never();
    observe(now);
  }

  // After a restart the far side knows no address, and frames that it cannot tell from replays prove none;
  // yet it must say where to go on. So until a frame is surely new, it answers wherever the last authentic
  // one came from: a replay turns it away only until the near side's next frame.
  void open_from(Instant now, const SocketAddress& source, ByteView datagram) {
    if (address_proved_) return core_->handle_datagram(now, source, datagram);
    auto& link = core_->link();
    const SocketAddress before = link.peer();
    const std::uint64_t authentic = link.stats().frames_in;
    link.set_peer({});
    core_->handle_datagram(now, source, datagram);
    address_proved_ = link.peer().port != 0;
    if (!address_proved_) link.set_peer(link.stats().frames_in != authentic ? source : before);
  }

  void replace(Instant now, const gateway::security::GatewaySecret& secret) {
    if (core_) {
      peer_ = core_->link().peer();
      if (on_replace) on_replace();
      core_.reset();
    }
    auto channel = keys_.next_channel(secret);
    if (!channel) {
      // The other side goes on asking; by then there may be room again.
      ++store_failures_;
      last_error_ = channel.error().message;
      if (keys_.role() == gateway::security::Role::near) keys_.agreement().begin(now, std::nullopt);
      return;
    }
    ++handshakes_;
    place(now, std::move(*channel));
  }

  std::optional<gateway::security::ConnectionId> current() {
    if (!core_) return std::nullopt;
    return core_->link().channel().connection_id();
  }

  void handle_handshake(Instant now, const SocketAddress& source, const gateway::security::FrameView& frame) {
    using Outcome = gateway::security::Agreement::Outcome;
    auto handled = keys_.agreement().handle(now, frame, current());
    if (handled.outcome == Outcome::nothing) return;
    if (handled.reply) reply_ = gateway::link::LinkTransmit{source, std::move(*handled.reply)};
    if (keys_.role() == gateway::security::Role::far) {
      if (handled.secret) keys_.add_candidate(*handled.secret);
      return;
    }
    last_heard_ = now;
    silent_since_ = now;
    pause_ = handled.outcome == Outcome::same ? std::min<Duration>(pause_ * 2, 3600s) : parts_.silence;
    if (handled.secret) replace(now, *handled.secret);
    observe(now);
  }

  // Notices authentic frames and silence.
  void observe(Instant now) {
    if (!core_) return;
    const auto& link = std::as_const(*core_).link();
    if (link.stats().frames_in != frames_seen_) {
      frames_seen_ = link.stats().frames_in;
      last_heard_ = now;
      silent_since_ = ask_at_ = Instant::never();
      pause_ = parts_.silence;
      if (keys_.role() == gateway::security::Role::near) keys_.agreement().cancel();
    }
    if (link.in_flight() == 0) {
      silent_since_ = ask_at_ = Instant::never();
    } else if (silent_since_.is_never()) {
      silent_since_ = now;
    }
    if (silent_since_.is_never() || !ask_at_.is_never() || keys_.agreement().is_running()) return;
    const Duration usual = link.rto().timeout(100, 300, 0) * 3;
    ask_at_ = now + std::max(pause_, usual);
  }

  PairedKeys keys_;
  Parts parts_;
  SocketAddress peer_;
  bool address_proved_ = false;  // by configuration or a new authentic frame
  std::optional<Core> core_;
  std::optional<gateway::link::LinkTransmit> reply_;
  std::uint64_t frames_seen_ = 0, handshakes_ = 0, store_failures_ = 0;
  std::string last_error_;
  Instant last_heard_ = Instant::never(), silent_since_ = Instant::never(), ask_at_ = Instant::never();
  Duration pause_ = 60s;
};

}  // namespace ravine::services
