// Join and renew; pairing is in pair.cpp.
#include "identity/join.h"

#include <fmt/format.h>

#include <algorithm>

#include "identity/fuse_name.h"
#include "identity/join_messages.h"
#include "identity/time_text.h"

namespace ravine::identity {
namespace {

using namespace messages;
constexpr std::string_view kJoinProof = "ravine join request";

Answer refuse(join::Response::Status status, Error error) {
  return {make_refusal(status, error.message), false, std::move(error), std::nullopt};
}

void fill_grant(join::Grant& grant, const IssuerContext& issuer, std::span<const Certificate> chain,
                UnixTime now) {
  const Authority& authority = *issuer.authority;
  const NetworkTrust& trust = authority.trust();
  grant.set_network_name(trust.network_name());
  grant.set_network(std::string(as_text(trust.network().view())));
  write_chain(*grant.mutable_chain(), chain);
  write_chain(*grant.mutable_issuer_chain(), authority.chain());
  write_chain(*grant.mutable_roots(), trust.roots());
  write_chain(*grant.mutable_crosses(), authority.crosses());
  if (issuer.secrets != nullptr) write_secrets(*grant.mutable_secrets(), *issuer.secrets);
  grant.set_revocations(std::string(as_text(trust.revocations().encoded())));
  for (const KnownPeer& known : issuer.peers) {
    if (static_cast<std::size_t>(grant.peers_size()) == kMaxKnownPeers) break;
    join::Peer& peer = *grant.add_peers();
    peer.set_id(std::string(as_text(known.id.view())));
    peer.set_name(known.name);
    write_addresses(*peer.mutable_addresses(), known.addresses);
  }
  grant.set_issuer_node(std::string(as_text(issuer.node.view())));
  grant.set_issuer_time(now.seconds);
}

Answer grant_answer(const IssuerContext& issuer, std::vector<Certificate> chain, ByteView request,
                    ByteView exporter, UnixTime now) {
  join::Grant grant;
  fill_grant(grant, issuer, chain, now);
  Answer answer;
  answer.response = make_signed_answer(issuer.authority->key(), exporter, request, serialise(grant));
  answer.changed = true;
  answer.issued = std::move(chain.front());
  return answer;
}

struct ParsedGrant {
  Membership membership;
  std::vector<Certificate> issuer_chain;
};

Result<ParsedGrant> parse_grant(const std::string& body) {
  join::Grant grant;
  if (!grant.ParseFromString(body)) return Error{ErrorKind::invalid_argument, "the answer is malformed"};
  ParsedGrant parsed;
  Membership& member = parsed.membership;
  const auto network = network_hash(grant.network());
  const auto node = peer_id(grant.issuer_node());
  if (!network || !node || !is_valid_node_name(grant.network_name()))
    return Error{ErrorKind::invalid_argument, "the answer names no valid network or issuer"};
  member.network_name = grant.network_name();
  member.network = *network;
  member.issuer_node = *node;
  member.issuer_time = {grant.issuer_time()};
  auto chain = read_chain(grant.chain(), kMaxChain), issuer = read_chain(grant.issuer_chain(), kMaxChain),
       roots = read_chain(grant.roots(), kMaxRoots), crosses = read_chain(grant.crosses(), kMaxRoots);
  for (auto* list : {&chain, &issuer, &roots, &crosses})
    if (!*list) return list->error().with_context("the answer");
  if (chain->empty() || issuer->empty() || roots->empty())
    return Error{ErrorKind::invalid_argument, "the answer lacks certificates"};
  member.chain = std::move(*chain);
  member.roots = std::move(*roots);
  member.crosses = std::move(*crosses);
  parsed.issuer_chain = std::move(*issuer);
  member.secrets = read_secrets(grant.secrets());
  member.revocations = to_bytes(as_bytes(grant.revocations()));
  for (const join::Peer& in : grant.peers()) {
    const auto id = peer_id(in.id());
    if (!id || member.peers.size() == kMaxKnownPeers) continue;
    member.peers.push_back(
        {*id, is_valid_node_name(in.name()) ? in.name() : std::string(), read_addresses(in.addresses())});
  }
  return parsed;
}

bool is_signed(const join::Response& response, const PublicKey& key, ByteView exporter, ByteView request) {
  return key.verify(answer_input(exporter, request, as_bytes(response.body())),
                    as_bytes(response.signature()));
}

// Our own certificate must pass the very policy that others will apply to it.
Result<> check_own_chain(std::shared_ptr<const NetworkTrust> trust, const Membership& member,
                         const PrivateKey& key, UnixTime now) {
  const std::vector<Bytes> chain = to_der(member.chain);
  const VerifyOutcome outcome = make_network_policy(std::move(trust))->verify({chain, now, false, key.id()});
  const auto* problem = std::get_if<Rejection>(&outcome);
  if (problem == nullptr) return {};
  return Error{
      ErrorKind::unauthenticated,
      fmt::format("the certificate that came back does not hold: {} (clock here {}, at the issuer {})",
                  problem->reason, to_text(now), to_text(member.issuer_time))};
}

}  // namespace

std::optional<ExchangeKind> exchange_kind(ByteView request) {
  const auto parsed = parse_request(request);
  if (!parsed) return std::nullopt;
  switch (parsed->body_case()) {
    case join::Request::kJoin:
      return ExchangeKind::join;
    case join::Request::kPair:
      return ExchangeKind::pair;
    case join::Request::kRenew:
      return ExchangeKind::renew;
    default:
      return std::nullopt;
  }
}

Result<Bytes> make_join_request(const Invite& invite, const PrivateKey& key, ByteView exporter) {
  if (invite.kind != CodeKind::invite)
    return Error{ErrorKind::invalid_argument, "this code is for pairing: use `ravine pair CODE`"};
  const Bytes csr = make_signing_request(key, key.id().to_text());
  const PrivateKey proof_key = invite.proof_key();
  join::Request request;
  join::Join& body = *request.mutable_join();
  body.set_signing_request(std::string(as_text(csr)));
  body.set_proof_key(std::string(as_text(proof_key.public_key().raw())));
  body.set_proof(std::string(as_text(proof_key.sign(proof_input(kJoinProof, exporter, csr)))));
  return serialise(request);
}

Answer answer_join(IssuerContext& issuer, ByteView request, ByteView exporter, const IpAddress& source,
                   UnixTime now, RandomSource& random) {
  if (issuer.authority == nullptr || issuer.invites == nullptr)
    return refuse(join::Response::NOT_AN_ISSUER,
                  {ErrorKind::unsupported, "this node issues no certificates"});
  if (!issuer.invites->may_try(source, now))
    return refuse(join::Response::TRY_LATER,
                  {ErrorKind::limit_reached, "too many wrong tries; wait a minute"});
  const auto parsed = parse_request(request);
  const auto fail = [&](join::Response::Status status, Error error) {
    issuer.invites->note_failure(source, now);
    return refuse(status, std::move(error));
  };
  if (!parsed || !parsed->has_join())
    return fail(join::Response::MALFORMED, {ErrorKind::invalid_argument, "not a join request"});
  const join::Join& body = parsed->join();
  const ByteView csr = as_bytes(body.signing_request());
  const auto proof_key = public_key(body.proof_key());
  const Result<SigningRequest> signing = SigningRequest::parse(csr);
  if (!proof_key || !signing)
    return fail(join::Response::MALFORMED,
                signing ? Error{ErrorKind::invalid_argument, "no proof key"} : signing.error());
  const PeerId joiner = signing->key.id();
  const Result<PendingInvite> pending = issuer.invites->find(proof_key->id(), joiner, now);
  if (!pending) return fail(join::Response::REFUSED, pending.error());
  if (pending->kind != CodeKind::invite ||
      !proof_key->verify(proof_input(kJoinProof, exporter, csr), as_bytes(body.proof())))
    return fail(join::Response::REFUSED,
                {ErrorKind::refused, "the proof of the code does not hold for this session"});
  // A name that is taken is the operator's mistake: the code stays good.
  Result<std::vector<Certificate>> chain =
      issuer.authority->issue(csr, {.name = pending->name, .groups = pending->groups}, now, random);
  if (!chain) return refuse(status_of(chain.error()), chain.error());
  ensure(issuer.invites->consume(proof_key->id(), joiner, now));
  return grant_answer(issuer, std::move(*chain), request, exporter, now);
}

Result<Membership> accept_join_response(const Invite& invite, const PrivateKey& key, ByteView request,
                                        ByteView response, ByteView exporter, UnixTime now) {
  const Result<join::Response> parsed = parse_response(response);
  if (!parsed) return parsed.error();
  Result<ParsedGrant> grant = parse_grant(parsed->body());
  if (!grant) return grant.error();
  const Certificate& issuer = grant->issuer_chain.front();
  if (!std::equal(invite.pin.begin(), invite.pin.end(), issuer.id.bytes.begin()))
    return Error{ErrorKind::unauthenticated, "the answer is not from the issuer that the code names"};
  if (!is_signed(*parsed, issuer.key, exporter, request))
    return Error{ErrorKind::unauthenticated, "the answer is not signed by the issuer for this exchange"};
  Membership& member = grant->membership;
  auto trust = NetworkTrust::make(member.roots, {.network_name = member.network_name});
  if (!trust) return trust.error().with_context("the answer");
  if ((*trust)->network() != member.network)
    return Error{ErrorKind::unauthenticated, "the answer's roots are of another network than it names"};
  if (!member.revocations.empty()) {
    const Result<bool> taken = (*trust)->accept_revocation(member.revocations, now);
    if (!taken) return taken.error().with_context("the answer");
  }
  if (Result<> own = check_own_chain(*trust, member, key, now); !own) return own.error();
  if (!member.chain.front().is_signed_by(issuer.key))
    return Error{ErrorKind::unauthenticated,
                 "the certificate that came back is not by the issuer that the code names"};
  if (member.secrets.empty())
    return Error{ErrorKind::invalid_argument, "the answer carries no network secret"};
  return std::move(member);
}

Bytes make_renew_request(const PrivateKey& key, std::string_view name) {
  join::Request request;
  request.mutable_renew()->set_signing_request(std::string(as_text(make_signing_request(key, name))));
  return serialise(request);
}

Answer answer_renew(IssuerContext& issuer, ByteView presented_leaf, ByteView request, ByteView exporter,
                    UnixTime now, RandomSource& random) {
  if (issuer.authority == nullptr)
    return refuse(join::Response::NOT_AN_ISSUER,
                  {ErrorKind::unsupported, "this node issues no certificates"});
  const auto parsed = parse_request(request);
  const Result<Certificate> current = Certificate::parse(presented_leaf);
  if (!parsed || !parsed->has_renew() || !current)
    return refuse(join::Response::MALFORMED, {ErrorKind::invalid_argument, "not a renew request"});
  Result<std::vector<Certificate>> chain =
      issuer.authority->renew(*current, as_bytes(parsed->renew().signing_request()), now, random);
  if (!chain) return refuse(status_of(chain.error()), chain.error());
  return grant_answer(issuer, std::move(*chain), request, exporter, now);
}

Result<Membership> accept_renew_response(const std::shared_ptr<NetworkTrust>& trust, const PrivateKey& key,
                                         ByteView request, ByteView response, ByteView exporter,
                                         UnixTime now) {
  const Result<join::Response> parsed = parse_response(response);
  if (!parsed) return parsed.error();
  Result<ParsedGrant> grant = parse_grant(parsed->body());
  if (!grant) return grant.error();
  Membership& member = grant->membership;
  if (member.network != trust->network())
    return Error{ErrorKind::unauthenticated, "the answer is of another network"};
  // Each new root is certified by one that is trusted by then, oldest first. One that is not stays out.
  for (const Certificate& root : member.roots)
    for (const Certificate& cross : member.crosses)
      if (cross.key == root.key) (void)trust->adopt_root(root, cross, now).ok();
  const std::vector<Certificate>& issuer_chain = grant->issuer_chain;
  if (auto problem = trust->check_chain(issuer_chain, now))
    return Error{ErrorKind::unauthenticated, "the answer's issuer is not trusted: " + problem->reason};
  if (!issuer_chain.front().may_sign_certificates ||
      !is_signed(*parsed, issuer_chain.front().key, exporter, request))
    return Error{ErrorKind::unauthenticated,
                 "the answer is not signed by an issuer of this network for this exchange"};
  if (!member.revocations.empty()) {
    const Result<bool> taken = trust->accept_revocation(member.revocations, now);
    if (!taken) return taken.error().with_context("the answer");
  }
  if (Result<> own = check_own_chain(trust, member, key, now); !own) return own.error();
  member.roots = trust->roots();
  return std::move(member);
}

}  // namespace ravine::identity
