// The exchanges that bring peers in: requests and responses of strangers. Arbitrary bytes are refused without
// a change, and a response is taken only when it is the issuer's own.
#include <google/protobuf/stubs/logging.h>

#include "fuzz/fuzz_network.h"
#include "identity/join.h"

using namespace ravine;
using fuzz::expect;

namespace {

const Bytes kExporter(32, 0x11);

struct Issuer {
  SeededRandom random{3};
  UnixTime now = fuzz::FixedClock().unix_time();
  std::unique_ptr<identity::Authority> authority;
  std::shared_ptr<identity::NetworkTrust> trust;
  identity::NetworkSecrets secrets;
  identity::InviteRegister invites;
  std::unique_ptr<identity::Invite> invite;
  std::unique_ptr<identity::PrivateKey> key;
  Bytes request;
  std::vector<identity::Certificate> pinned;

  Issuer() {
    auto root = identity::make_root("fuzz", now, random);
    expect(root.ok());
    const identity::PeerId pin = root->certificate.id;
    auto made = identity::NetworkTrust::make({root->certificate});
    expect(made.ok());
    trust = *made;
    auto opened = identity::Authority::open(
        {.key = std::move(root->key), .chain = {root->certificate}, .trust = trust, .crosses = {}}, {}, now);
    expect(opened.ok());
    authority = std::make_unique<identity::Authority>(std::move(*opened));
    secrets.add(identity::NetworkSecret::make(1, random));
    invite = std::make_unique<identity::Invite>(identity::Invite::make(
        identity::CodeKind::invite, pin, {HostPort{.host = "192.0.2.1", .port = 4717}}, random));
    expect(invites.add(*invite, "newcomer", {}, now + std::chrono::hours(1), now).ok());
    key = std::make_unique<identity::PrivateKey>(identity::PrivateKey::generate(random));
    auto asked = identity::make_join_request(*invite, *key, kExporter);
    expect(asked.ok());
    request = std::move(*asked);
    pinned = {identity::make_pinned_certificate(*key, "host", now, random)};
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Issuer issuer;
  const ByteView bytes(data, size);
  [[maybe_unused]] static const auto former =
      google::protobuf::SetLogHandler(nullptr);  // or it writes to stderr
  (void)identity::exchange_kind(bytes);

  identity::IssuerContext context;
  context.authority = issuer.authority.get();
  context.invites = &issuer.invites;
  context.secrets = &issuer.secrets;
  const std::size_t before = issuer.authority->issued().size();
  const IpAddress source = IpAddress::v4({192, 0, static_cast<std::uint8_t>(size), 7});
  const identity::Answer joined =
      identity::answer_join(context, bytes, kExporter, source, issuer.now, issuer.random);
  expect(joined.refused.has_value() && !joined.issued);
  expect(issuer.authority->issued().size() == before);
  // A well-formed request of the verified holder is granted: the corpus has one.
  const identity::Answer renewed = identity::answer_renew(context, fuzz::members().client.local.chain.front(),
                                                          bytes, kExporter, issuer.now, issuer.random);
  expect(renewed.issued.has_value() != renewed.refused.has_value());

  identity::PairContext pairing;
  pairing.invites = &issuer.invites;
  pairing.own.key = issuer.key.get();
  pairing.own.chain = issuer.pinned;
  expect(!identity::answer_pair(pairing, bytes, kExporter, source, issuer.now).paired);

  expect(!identity::accept_join_response(*issuer.invite, *issuer.key, issuer.request, bytes, kExporter,
                                         issuer.now)
              .ok());
  expect(!identity::accept_renew_response(issuer.trust, *issuer.key, issuer.request, bytes, kExporter,
                                          issuer.now)
              .ok());
  return 0;
}
