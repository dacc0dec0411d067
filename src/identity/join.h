// The exchanges that bring peers in, without I/O: join (a new member, by invite), pair (two pinned peers, by
// code), renew (a member, over its session). Each is one request and one response on one bidirectional
// stream: the sender writes the bytes and finishes its side; the receiver reads to the end (at most the
// limits below). Join and pair run over ALPN "ravine-join/1" without a client certificate; renew over an
// ordinary session. `exporter` is the session's exported keying material with label kJoinExporter (RFC 8446
// §7.5): it ties the messages to the session, so that they cannot be replayed in or forwarded to another.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "identity/authority.h"
#include "identity/invite.h"
#include "identity/network_secret.h"
#include "identity/network_trust.h"

namespace ravine::identity {

inline constexpr std::string_view kJoinExporter = "EXPORTER-ravine-join";
inline constexpr std::size_t kMaxJoinRequest = std::size_t{16} * 1024;  // bytes
inline constexpr std::size_t kMaxJoinResponse =
    std::size_t{2} * 1024 * 1024;  // bytes; holds a full revocation list
inline constexpr std::size_t kMaxKnownPeers = 256;

// A hint where to find a member.
struct KnownPeer {
  PeerId id;
  std::string name;
  std::vector<HostPort> addresses;
};

// What a member gets: everything that a node needs to be in the network.
struct Membership {
  std::string network_name;
  NetworkHash network;
  std::vector<Certificate> chain;  // ours, leaf first, without root
  std::vector<Certificate> roots;
  std::vector<Certificate> crosses;  // of later roots, to show behind the chain and to adopt
  NetworkSecrets secrets;
  Bytes revocations;  // encoded list; empty when none was issued
  std::vector<KnownPeer> peers;
  PeerId issuer_node;    // whom to ask for renewal
  UnixTime issuer_time;  // the issuer's clock when it answered
};

// What the issuer's node puts into answers beside the certificate.
struct IssuerContext {
  Authority* authority = nullptr;  // null on a node that only pairs
  InviteRegister* invites = nullptr;
  const NetworkSecrets* secrets = nullptr;
  std::vector<KnownPeer> peers;
  PeerId node;  // this node's own key
};

// An answer to send, and what happened. When `changed`, store the authority's register and the invite
// register before sending.
struct Answer {
  Bytes response;
  bool changed = false;
  std::optional<Error> refused;       // for the log; the requester sees a status and a short text
  std::optional<Certificate> issued;  // join, renew: the new leaf
};

// --- join
Result<Bytes> make_join_request(const Invite& invite, const PrivateKey& key, ByteView exporter);
Answer answer_join(IssuerContext& issuer, ByteView request, ByteView exporter, const IpAddress& source,
                   UnixTime now, RandomSource& random);
// Verifies everything before it returns it: the issuer's signature (its key is pinned by the code) over this
// exchange, the chain to the roots, our key, name and address in it, the revocation list. Errors: refused
// with the issuer's words, unauthenticated, invalid_argument.
Result<Membership> accept_join_response(const Invite& invite, const PrivateKey& key, ByteView request,
                                        ByteView response, ByteView exporter, UnixTime now);

// --- renew: `key` may be a new one. `presented`: the leaf that the session verified.
Bytes make_renew_request(const PrivateKey& key, std::string_view name);
Answer answer_renew(IssuerContext& issuer, ByteView presented_leaf, ByteView request, ByteView exporter,
                    UnixTime now, RandomSource& random);
// Checks against the trust that we have; adopts new roots into it and takes a newer revocation list.
Result<Membership> accept_renew_response(const std::shared_ptr<NetworkTrust>& trust, const PrivateKey& key,
                                         ByteView request, ByteView response, ByteView exporter,
                                         UnixTime now);

// --- pair
// One side of a pinned network.
struct PairSide {
  const PrivateKey* key = nullptr;
  std::span<const Certificate> chain;  // own pinned chain, leaf first
  std::string name;                    // what the other may call us; a valid node name, or empty
  std::vector<HostPort> addresses;
};
struct Paired {
  PeerId id;  // of the other: pin it
  std::string name;
  std::vector<HostPort> addresses;
  NetworkHash network;
  NetworkSecrets secrets;
};
// The acceptor's pinned network, if it has one already: the newcomer joins it. Otherwise the code's secret
// founds one.
struct PairContext {
  InviteRegister* invites = nullptr;
  PairSide own;
  std::optional<NetworkHash> network;
  const NetworkSecrets* secrets = nullptr;
};
struct PairAnswer {
  Bytes response;
  std::optional<Paired> paired;  // store it, and the invite register, before sending
  std::optional<Error> refused;
};
Result<Bytes> make_pair_request(const Invite& code, const PairSide& own, ByteView exporter);
PairAnswer answer_pair(PairContext& acceptor, ByteView request, ByteView exporter, const IpAddress& source,
                       UnixTime now);
Result<Paired> accept_pair_response(const Invite& code, const PairSide& own, ByteView request,
                                    ByteView response, ByteView exporter, UnixTime now);

// Which exchange a request belongs to, so that one acceptor serves all three; nullopt when malformed.
enum class ExchangeKind : std::uint8_t { join, pair, renew };
std::optional<ExchangeKind> exchange_kind(ByteView request);

}  // namespace ravine::identity
