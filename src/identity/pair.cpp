#include <fmt/format.h>

#include <algorithm>

#include "identity/fuse_name.h"
#include "identity/join.h"
#include "identity/join_messages.h"
#include "identity/time_text.h"

namespace ravine::identity {
namespace {

using namespace messages;
constexpr std::string_view kPairProof = "ravine pair request";

Bytes make_body(const PairSide& side, const NetworkHash& network, const NetworkSecrets& secrets) {
  join::PairBody body;
  write_chain(*body.mutable_chain(), side.chain);
  body.set_name(side.name);
  write_addresses(*body.mutable_addresses(), side.addresses);
  body.set_network(std::string(as_text(network.view())));
  write_secrets(*body.mutable_secrets(), secrets);
  return serialise(body);
}

Result<Paired> parse_body(ByteView bytes, UnixTime now, PublicKey& leaf_key) {
  join::PairBody body;
  if (!body.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return Error{ErrorKind::invalid_argument, "the pairing message is malformed"};
  const auto chain = read_chain(body.chain(), kMaxChain);
  if (!chain) return chain.error().with_context("the other side's chain");
  const auto network = network_hash(body.network());
  NetworkSecrets secrets = read_secrets(body.secrets());
  if (chain->empty() || !network || secrets.empty())
    return Error{ErrorKind::invalid_argument, "the pairing message lacks certificate, network or secret"};
  const Certificate& leaf = chain->front();
  if (auto problem = check_validity(leaf, now, std::chrono::seconds(0), kClockSkew))
    return Error{ErrorKind::unauthenticated, problem->reason};
  leaf_key = leaf.key;
  return Paired{leaf.id, is_valid_node_name(body.name()) ? body.name() : std::string(),
                read_addresses(body.addresses()), *network, std::move(secrets)};
}

Result<> check_side(const PairSide& side) {
  if (side.key != nullptr && !side.chain.empty() && side.chain.front().id == side.key->id()) return {};
  return Error{ErrorKind::invalid_argument,
               "pairing: the own chain does not start with the own key's certificate"};
}

}  // namespace

Result<Bytes> make_pair_request(const Invite& code, const PairSide& own, ByteView exporter) {
  if (code.kind != CodeKind::pair)
    return Error{ErrorKind::invalid_argument, "this code is an invitation: use `ravine join CODE`"};
  if (Result<> side = check_side(own); !side) return side.error();
  const PinnedNetwork founded = PinnedNetwork::derive_from(code.secret);
  NetworkSecrets secrets;
  secrets.add(founded.secret);
  const Bytes body = make_body(own, founded.network, secrets);
  const Bytes input = proof_input(kPairProof, exporter, body);
  const PrivateKey proof_key = code.proof_key();
  join::Request request;
  join::Pair& pair = *request.mutable_pair();
  pair.set_body(std::string(as_text(body)));
  pair.set_proof_key(std::string(as_text(proof_key.public_key().raw())));
  pair.set_proof(std::string(as_text(proof_key.sign(input))));
  pair.set_key_proof(std::string(as_text(own.key->sign(input))));
  return serialise(request);
}

PairAnswer answer_pair(PairContext& acceptor, ByteView request, ByteView exporter, const IpAddress& source,
                       UnixTime now) {
  ensure(acceptor.invites != nullptr && check_side(acceptor.own).ok());
  const auto refuse = [&](join::Response::Status status, Error error, bool counts = true) {
    if (counts) acceptor.invites->note_failure(source, now);
    return PairAnswer{make_refusal(status, error.message), std::nullopt, std::move(error)};
  };
  if (!acceptor.invites->may_try(source, now))
    return refuse(join::Response::TRY_LATER,
                  {ErrorKind::limit_reached, "too many wrong tries; wait a minute"}, false);
  const auto parsed = parse_request(request);
  if (!parsed || !parsed->has_pair())
    return refuse(join::Response::MALFORMED, {ErrorKind::invalid_argument, "not a pairing request"});
  const join::Pair& pair = parsed->pair();
  const auto proof_key = public_key(pair.proof_key());
  PublicKey leaf_key;
  Result<Paired> other = parse_body(as_bytes(pair.body()), now, leaf_key);
  if (!proof_key || !other)
    return refuse(join::Response::MALFORMED,
                  other ? Error{ErrorKind::invalid_argument, "no proof key"} : other.error());
  const Result<PendingInvite> pending = acceptor.invites->find(proof_key->id(), other->id, now);
  if (!pending) return refuse(join::Response::REFUSED, pending.error());
  const Bytes input = proof_input(kPairProof, exporter, as_bytes(pair.body()));
  if (pending->kind != CodeKind::pair || !proof_key->verify(input, as_bytes(pair.proof())) ||
      !leaf_key.verify(input, as_bytes(pair.key_proof())))
    return refuse(join::Response::REFUSED,
                  {ErrorKind::refused, "the proof of the code does not hold for this session"});
  if (other->id == acceptor.own.key->id())
    return refuse(join::Response::REFUSED, {ErrorKind::refused, "a peer cannot be paired with itself"});
  ensure(acceptor.invites->consume(proof_key->id(), other->id, now));
  if (!pending->name.empty()) other->name = pending->name;
  if (acceptor.network && acceptor.secrets != nullptr && !acceptor.secrets->empty()) {
    other->network = *acceptor.network;
    other->secrets = *acceptor.secrets;
  }
  const Bytes body = make_body(acceptor.own, other->network, other->secrets);
  return PairAnswer{make_signed_answer(*acceptor.own.key, exporter, request, body), std::move(*other),
                    std::nullopt};
}

Result<Paired> accept_pair_response(const Invite& code, const PairSide& own, ByteView request,
                                    ByteView response, ByteView exporter, UnixTime now) {
  const Result<join::Response> parsed = parse_response(response);
  if (!parsed) return parsed.error();
  PublicKey leaf_key;
  Result<Paired> other = parse_body(as_bytes(parsed->body()), now, leaf_key);
  if (!other) return other.error();
  if (!std::equal(code.pin.begin(), code.pin.end(), other->id.bytes.begin()))
    return Error{ErrorKind::unauthenticated, "the answer is not from the peer that the code names"};
  if (!leaf_key.verify(answer_input(exporter, request, as_bytes(parsed->body())),
                       as_bytes(parsed->signature())))
    return Error{ErrorKind::unauthenticated, "the answer is not signed by the peer for this exchange"};
  if (own.key != nullptr && other->id == own.key->id())
    return Error{ErrorKind::refused, "a peer cannot be paired with itself"};
  return other;
}

}  // namespace ravine::identity
