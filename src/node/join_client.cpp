#include "node/join_client.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>

#include "host/clock.h"
#include "host/file.h"
#include "host/interfaces.h"
#include "host/resolver.h"
#include "node/member.h"
#include "runtime/driver.h"
#include "services/join.h"

namespace ravine::node {

namespace {

// Everything that one exchange needs, in the order in which it has to go away.
class Exchange {
 public:
  Exchange(RandomSource& random, const WallClock& clock, Log log)
      : random_(random), clock_(clock), log_(log), resolver_(loop_) {}

  // `key` signs nothing here: a guest shows no certificate, but the endpoint wants an identity per network.
  Result<services::Exchanged> run(const identity::PrivateKey& key, const identity::Invite& invite,
                                  services::MakeRequest make_request) {
    Bytes secret(32);
    random_.fill(secret);
    session::EndpointOptions endpoint;
    endpoint.seed = random_.next_u64();
    endpoint.static_secret = std::move(secret);
    endpoint.accept = false;
    runtime::Driver driver(loop_, {.port = 0, .endpoint = std::move(endpoint), .watch_interfaces = false},
                           random_, clock_, log_.named("driver"));
    if (auto opened = driver.open(); !opened) return opened.error();
    const std::vector<identity::Certificate> chain{
        identity::make_pinned_certificate(key, "", clock_.unix_time(), random_)};
    auto local = identity::make_local_identity(key, chain);
    if (!local) return local.error();
    const auto policy = identity::make_issuer_pin_policy(invite.pin);
    session::NetworkOptions network;
    network.name = "join";
    network.local = std::move(*local);
    network.policy = policy;
    network.server_names = {invite.server_name()};
    const session::NetworkId id = driver.endpoint().add_network(std::move(network));
    std::optional<Result<services::Exchanged>> outcome;
    const services::ServiceContext context{
        loop_, driver, log_, [this](const std::string& host, auto done) { resolve(host, std::move(done)); }};
    driver.enter();
    services::join_network(context,
                           {.network = id,
                            .addresses = invite.addresses,
                            .server_name = invite.server_name(),
                            .policy = policy,
                            .make_request = std::move(make_request)},
                           [&](Result<services::Exchanged> exchanged) {
                             outcome = std::move(exchanged);
                             loop_.stop();
                           });
    driver.touch();
    loop_.run();
    driver.close();
    loop_.restart();
    loop_.poll();
    if (!outcome) return Error{ErrorKind::internal, "the exchange ended without an outcome"};
    return std::move(*outcome);
  }

 private:
  void resolve(const std::string& host, std::function<void(services::Addresses)> done) {
    resolver_.resolve(host, 0, [done = std::move(done)](Result<std::vector<SocketAddress>> found) {
      if (!found) return done(found.error());
      std::vector<IpAddress> addresses;
      for (const SocketAddress& address : *found) addresses.push_back(address.ip);
      done(std::move(addresses));
    });
  }

  boost::asio::io_context loop_{1};
  RandomSource& random_;
  const WallClock& clock_;
  Log log_;
  host::Resolver resolver_;
};

void tell(const JoinOptions& options, std::string_view what) {
  if (options.progress) options.progress(what);
}

Result<std::unique_ptr<host::FlooredClock>> prepare(const StateDir& state) {
  if (auto made = state.make(); !made) return made.error();
  return host::FlooredClock::open(state.clock());
}

std::string addresses_text(const identity::Invite& invite) {
  std::string out;
  for (const HostPort& address : invite.addresses) {
    const bool is_ipv6 = address.host.find(':') != std::string::npos;
    const std::string host = is_ipv6 ? "[" + address.host + "]" : address.host;
    out += fmt::format("{}{}:{}", out.empty() ? "" : ", ", host, address.port);
  }
  return out;
}

// Where other machines may find the node that will run here.
std::vector<HostPort> local_addresses(std::uint16_t port) {
  std::vector<HostPort> out;
  auto found = host::list_interface_addresses();
  if (!found) return out;
  for (const host::InterfaceAddress& address : *found) {
    if (!address.is_usable() || address.address.is_link_local() || address.deprecated) continue;
    if (out.size() < identity::kMaxInviteAddresses) out.push_back({address.address.to_text(), port});
  }
  return out;
}

}  // namespace

Result<JoinOutcome> join_by_code(const StateDir& state, const identity::Invite& invite,
                                 const JoinOptions& options, RandomSource& random, Log log) {
  auto clock = prepare(state);
  if (!clock) return clock.error();
  const auto key = identity::PrivateKey::generate(random);
  tell(options, fmt::format("asking the issuer at {}", addresses_text(invite)));
  Exchange exchange(random, **clock, log);
  auto exchanged = exchange.run(
      key, invite, [&](ByteView exporter) { return identity::make_join_request(invite, key, exporter); });
  if (!exchanged) return exchanged.error();
  auto membership = identity::accept_join_response(invite, key, exchanged->request, exchanged->response,
                                                   exchanged->exporter, (*clock)->unix_time());
  if (!membership) return membership.error();
  const std::string name = options.directory_name.empty() ? membership->network_name : options.directory_name;
  const std::string directory = state.network(name);
  // A membership that ended is replaced; one that holds is not.
  const auto present = load_member(state, {.name = name}, (*clock)->unix_time());
  if (host::file_exists(directory + "/cert.crt") && (!present || present->unusable.empty())) {
    return Error{
        ErrorKind::already_exists,
        fmt::format(
            "{} holds a membership already; give the new network another name here with --network NAME, "
            "and ask for a new code, since this one is used up",
            directory)};
  }
  tell(options, fmt::format("storing the membership in {}", directory));
  if (auto saved = save_member(directory, key, *membership); !saved) return saved.error();
  const identity::Certificate& leaf = membership->chain.front();
  return JoinOutcome{.network = name,
                     .name = leaf.name,
                     .id = leaf.id.to_text(),
                     .address = leaf.overlay ? leaf.overlay->to_text() : "",
                     .directory = directory,
                     .not_after = leaf.not_after};
}

Result<JoinOutcome> pair_by_code(const StateDir& state, const identity::Invite& code,
                                 const JoinOptions& options, RandomSource& random, Log log) {
  auto clock = prepare(state);
  if (!clock) return clock.error();
  const std::string network =
      options.directory_name.empty() ? std::string(kPinnedNetworkName) : options.directory_name;
  const std::string directory = state.network(network);
  const UnixTime now = (*clock)->unix_time();
  if (host::file_exists(directory + "/network.secret")) {
    return Error{
        ErrorKind::already_exists,
        fmt::format(
            "this machine is in a network \"{}\" already; run \"ravine pair\" here and use its code on the "
            "other machine, or keep this pairing apart with --network NAME",
            network)};
  }
  if (auto made = make_pinned_member(directory, options.pair_name, now, random); !made) return made.error();
  auto key = load_key(directory + "/key.pem");
  if (!key) return key.error();
  auto chain = load_certificates(directory + "/cert.crt");
  if (!chain) return chain.error();
  const identity::PairSide own{.key = &*key,
                               .chain = *chain,
                               .name = options.pair_name,
                               .addresses = local_addresses(options.pair_port)};
  tell(options, fmt::format("asking the other machine at {}", addresses_text(code)));
  Exchange exchange(random, **clock, log);
  auto exchanged = exchange.run(
      *key, code, [&](ByteView exporter) { return identity::make_pair_request(code, own, exporter); });
  if (!exchanged) return exchanged.error();
  auto paired = identity::accept_pair_response(code, own, exchanged->request, exchanged->response,
                                               exchanged->exporter, now);
  if (!paired) return paired.error();
  if (auto saved = save_paired(directory, *paired); !saved) return saved.error();
  return JoinOutcome{.network = network,
                     .name = options.pair_name,
                     .id = key->id().to_text(),
                     .address = identity::overlay_address(paired->network, key->id()).to_text(),
                     .directory = directory,
                     .not_after = {}};
}

Result<> found_pinned_network(const StateDir& state, std::string_view name, UnixTime now,
                              RandomSource& random) {
  const std::string directory = state.network(kPinnedNetworkName);
  if (host::file_exists(directory + "/network.secret")) return {};
  if (auto made = state.make(); !made) return made;
  if (auto made = make_pinned_member(directory, name, now, random); !made) return made;
  const auto founded = identity::PinnedNetwork::derive_from(identity::Secret<16>::random(random));
  Member member;
  member.directory = directory;
  member.network = founded.network;
  member.pinned = std::make_shared<identity::PinnedPeers>();
  if (auto saved = save_pinned(member); !saved) return saved;
  identity::NetworkSecrets secrets;
  secrets.add(founded.secret);
  return save_secrets(directory, secrets);
}

}  // namespace ravine::node
