// Endpoint::Impl, in parts by file: endpoint.cpp (commands, networks), endpoint_receive.cpp (what arrives),
// endpoint_drive.cpp (timers, transmit, events, sessions of one peer). Internal to this folder.
#pragma once

#include <deque>
#include <map>
#include <unordered_map>
#include <vector>

#include "session/convergence.h"
#include "session/endpoint.h"
#include "session/endpoint_core.h"
#include "session/retry.h"
#include "session/session_impl.h"

namespace ravine::session {

struct Endpoint::Impl final : EndpointCore, AcceptSelector {
  Impl(EndpointOptions options, RandomSource& random, const WallClock& clock);

  struct Network {
    NetworkOptions options;
    std::shared_ptr<const TlsContext> tls;  // null: the identity is unusable, `error` says why
    std::string error;
    bool live = true;
  };
  struct Slot {
    std::uint32_t generation = 0;
    std::unique_ptr<Session> session;
  };
  struct PeerKey {
    std::uint32_t network = 0;
    identity::PeerId peer;
    friend auto operator<=>(const PeerKey&, const PeerKey&) = default;
  };
  struct PeerKeyHash {
    std::size_t operator()(const PeerKey& key) const {
      return identity::PeerIdHash{}(key.peer) ^ key.network;
    }
  };
  struct Offer {
    bool used = false;
    OfferOptions options;
  };

  // --- AcceptSelector
  std::span<const std::string> alpns() const override { return protocols; }
  std::variant<AcceptChoice, AcceptRefusal> select(std::string_view server_name,
                                                   std::string_view alpn) const override;

  // --- commands (endpoint.cpp)
  static void prepare(Network& network, ByteView secret);
  Network* network_of(NetworkId id);
  ConnectionOptions connection_options(Role role) const;
  // Of a direct path; known: of an earlier session to this peer, 0 if there was none.
  static Duration first_round_trip(const Route& route, Duration known);
  Result<SessionId> dial(Instant now, const DialOptions& dial);
  Result<std::unique_ptr<Connection>> connect(Instant now, const DialOptions& dial, Network& network,
                                              PathLabels labels);
  void recheck(Instant now, Session::Impl& session);
  Session::Impl* held(SessionId id);  // also closing; null when the slot has moved on
  Session::Impl* live(SessionId id);

  // --- input (endpoint_receive.cpp)
  void handle_datagram(Instant now, const Route& route, std::uint8_t ecn, MutableBytes packet);
  void deliver(Instant now, const forward::Target& target, const Route& route, std::uint8_t ecn,
               MutableBytes packet);
  void forward_packet(Instant now, std::uint32_t entry, const Route& route, std::uint8_t ecn,
                      ByteView packet);
  void handle_unknown(Instant now, Label label, const Route& route, std::uint8_t ecn, MutableBytes packet);
  void handle_first_flight(Instant now, const forward::Target& target, const Route& route, std::uint8_t ecn,
                           MutableBytes packet);
  struct FirstFlight {
    AcceptedInitial initial;
    Label label;
    bool admitted = false;
  };
  FirstFlight admit(Instant now, const Route& route, const wire::LongHeader& header, ByteView packet,
                    bool offered);
  void accept(Instant now, const FirstFlight& flight, const OfferOptions* offer, const Route& route,
              std::uint8_t ecn, ByteView packet);
  void adopt_offers(Session::Impl& session, Label canonical, const OfferOptions& used);
  bool handle_reset(Instant now, Label label, const Route& route, ByteView packet);
  void send_raw(const Route& route, std::uint8_t ecn, Bytes bytes);

  // --- drive (endpoint_drive.cpp)
  std::uint32_t take_slot();
  SessionId place(std::unique_ptr<Session::Impl> session);
  void erase(std::uint32_t slot);
  void after_input(Instant now, Session::Impl& session);
  void keep_books(Instant now, Session::Impl& session);
  void index_peer(Session::Impl& session);
  void unindex_peer(Session::Impl& session);
  std::vector<Session::Impl*> sessions_of(const std::vector<SessionId>& ids);
  void settle_contest(Session::Impl& session);
  void arm(Session::Impl& session);
  void disarm(Session::Impl& session);
  void heap_swap(std::size_t a, std::size_t b);
  void heap_up(std::size_t at);
  void heap_down(std::size_t at);
  Session::Impl& in_slot(std::uint32_t slot) { return slots[slot].session->impl(); }
  bool transmit_raw(TransmitBatch& batch);
  void keep_ticket(Session::Impl& session);
  void expire_offers(Instant now);

  std::vector<Network> networks;
  std::vector<Slot> slots;
  std::vector<std::uint32_t> free_slots;
  std::vector<std::uint32_t> heap;  // session slots by deadline, nearest first
  std::vector<std::uint32_t> touched;
  std::unordered_map<PeerKey, std::vector<SessionId>, PeerKeyHash> peers;
  std::vector<Offer> offers;
  std::size_t offers_used = 0;
  PrefixLimits prefixes;
  std::deque<RawPacket> raw;
  std::size_t raw_bytes = 0;
  std::vector<OutgoingPacket> scratch;
  struct Remembered {  // of the last session that we dialled
    Bytes ticket;
    Duration round_trip{0};
  };
  std::unordered_map<PeerKey, Remembered, PeerKeyHash> tickets;
  std::deque<PeerKey> ticket_order;
  struct Punches {
    Instant since;
    unsigned count = 0;
  };
  std::map<SocketAddress, Punches> punches;
  std::optional<SessionId> told_closed;  // its session_closed was the last event polled
  std::shared_ptr<const TlsContext> guest_tls;
  std::vector<std::string> protocols{std::string(kAlpn), std::string(kJoinAlpn)};
  Instant next_sweep;
};

}  // namespace ravine::session
