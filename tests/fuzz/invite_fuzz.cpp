// Codes that people copy and registers that disks return: what parses has one text, or one encoding.
#include <google/protobuf/stubs/logging.h>

#include "fuzz/fuzz_input.h"
#include "identity/fuse_name.h"
#include "identity/invite.h"
#include "identity/network_secret.h"

using namespace ravine;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(data, size);
  [[maybe_unused]] static const auto former =
      google::protobuf::SetLogHandler(nullptr);  // or it writes to stderr
  if (const auto invite = identity::Invite::parse(as_text(bytes)); invite.ok()) {
    expect(!invite->addresses.empty() && invite->addresses.size() <= identity::kMaxInviteAddresses);
    const std::string text = invite->to_text();
    expect(text.size() <= identity::kMaxInviteText);
    const auto again = identity::Invite::parse(text);
    expect(again.ok() && again->to_text() == text && again->server_name() == invite->server_name());
  }
  if (const auto pending = identity::InviteRegister::decode(bytes); pending.ok()) {
    expect(pending->pending().size() <= identity::kMaxPendingInvites);
    const auto again = identity::InviteRegister::decode(pending->encode());
    expect(again.ok() && again->encode() == pending->encode());
  }
  if (const auto secrets = identity::NetworkSecrets::decode(bytes); secrets.ok()) {
    expect(secrets->all().size() <= identity::kMaxSecretVersions);
    expect(identity::NetworkSecrets::decode(secrets->encode()).ok());
  }
  if (const auto name = identity::FuseName::parse(as_text(bytes))) {
    expect(identity::is_under_fuse(as_text(bytes)));
    const auto again = identity::FuseName::parse(name->to_text());
    expect(again && again->kind == name->kind && again->peer == name->peer &&
           again->network == name->network);
  }
  return 0;
}
