#include "identity/invite.h"

#include <fmt/format.h>

#include <algorithm>

#include "identity/fuse_name.h"
#include "identity/network_secret.h"
#include "register.pb.h"

namespace ravine::identity {
namespace {

constexpr std::string_view kPrefix = "RV1";
constexpr std::size_t kChecksumSize = 4;
constexpr std::size_t kMaxHostName = 253;
constexpr std::size_t kMaxFailureSources = 4096;
constexpr std::size_t kMaxRegisterSize = std::size_t{4} * 1024 * 1024;
enum AddressForm : std::uint8_t { kForm4 = 4, kForm6 = 6, kFormName = 1 };

Error invalid(std::string message) {
  return {ErrorKind::invalid_argument, std::move(message)};
}

void write_address(ByteWriter& writer, const HostPort& address) {
  const auto ip = IpAddress::parse(address.host);
  if (ip && ip->scope() == 0) {
    writer.write_u8(ip->is_v4() ? kForm4 : kForm6);
    writer.write({ip->data(), ip->size()});
  } else {
    writer.write_u8(kFormName);
    writer.write_u8(static_cast<std::uint8_t>(address.host.size()));
    writer.write(as_bytes(address.host));
  }
  writer.write_u16(address.port);
}

bool read_address(ByteReader& reader, HostPort& address) {
  switch (reader.read_u8()) {
    case kForm4: {
      std::array<std::uint8_t, 4> raw{};
      reader.read_into(raw);
      address.host = IpAddress::v4(raw).to_text();
      break;
    }
    case kForm6: {
      std::array<std::uint8_t, 16> raw{};
      reader.read_into(raw);
      address.host = IpAddress::v6(raw).to_text();
      break;
    }
    case kFormName: {
      const std::size_t size = reader.read_u8();
      address.host = as_text(reader.read_view(size));
      const auto visible = [](char c) { return c > 0x20 && c < 0x7f; };
      if (size == 0 || size > kMaxHostName || !std::all_of(address.host.begin(), address.host.end(), visible))
        return false;
      break;
    }
    default:
      return false;
  }
  address.port = reader.read_u16();
  return reader.ok() && address.port != 0;
}

// The text without separators, look-alikes mapped; an error names the first character that cannot be.
Result<std::string> normalise(std::string_view text) {
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == ' ' || c == '-' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    // The digit of the prefix itself stays.
    if (clean.size() >= kPrefix.size()) c = c == '0' ? 'O' : c == '1' ? 'I' : c == '8' ? 'B' : c;
    const bool allowed =
        (c >= 'A' && c <= 'Z') || (c >= '2' && c <= '7') || (c == '1' && clean.size() < kPrefix.size());
    if (!allowed) return invalid(fmt::format("code: character {} cannot be part of a code", i + 1));
    clean.push_back(c);
  }
  return clean;
}

// /24 or /56: what one attacker has at hand.
IpAddress failure_prefix(const IpAddress& source) {
  if (source.is_v4()) return IpAddress::v4({source.data()[0], source.data()[1], source.data()[2], 0});
  std::array<std::uint8_t, 16> bytes{};
  std::copy_n(source.data(), 7, bytes.begin());
  return IpAddress::v6(bytes);
}

}  // namespace

Invite Invite::make(CodeKind kind, const PeerId& pinned, std::vector<HostPort> addresses,
                    RandomSource& random) {
  ensure(!addresses.empty());
  Invite invite;
  invite.kind = kind;
  std::copy_n(pinned.bytes.begin(), kPinSize, invite.pin.begin());
  invite.secret = Secret<16>::random(random);
  if (addresses.size() > kMaxInviteAddresses) addresses.resize(kMaxInviteAddresses);
  invite.addresses = std::move(addresses);
  return invite;
}

std::string Invite::to_text() const {
  ByteWriter writer;
  writer.write_u8(static_cast<std::uint8_t>(kind));
  writer.write(pin);
  writer.write(secret.view());
  writer.write_u8(static_cast<std::uint8_t>(addresses.size()));
  for (const HostPort& address : addresses) write_address(writer, address);
  const Digest checksum = sha256(writer.view());
  writer.write(ByteView(checksum).first(kChecksumSize));
  std::string text(kPrefix);
  for (const char c : encode_base32(writer.view()))
    text.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  return text;
}

Result<Invite> Invite::parse(std::string_view text) {
  if (text.size() > kMaxInviteText) return invalid("code: too long to be one; paste the code alone");
  const Result<std::string> clean = normalise(text);
  if (!clean) return clean.error();
  const std::string_view code = *clean;
  if (!code.starts_with(kPrefix))
    return invalid("not a code: codes of `ravine invite` and `ravine pair` begin with RV1");
  const std::optional<Bytes> bytes = decode_base32(code.substr(kPrefix.size()));
  constexpr std::size_t kShortest = 1 + kPinSize + 16 + 1 + 1 + 2 + 2 + kChecksumSize;
  if (code.size() - kPrefix.size() < kShortest * 8 / 5) return invalid("code: cut off; copy all of it");
  if (!bytes || bytes->size() < kShortest)
    return invalid("code: mistyped or cut off; compare it with the original");
  const ByteView body = ByteView(*bytes).first(bytes->size() - kChecksumSize);
  const Digest checksum = sha256(body);
  if (!std::equal(checksum.begin(), checksum.begin() + kChecksumSize, bytes->end() - kChecksumSize))
    return invalid("code: mistyped or cut off; its checksum does not match, compare it with the original");
  ByteReader reader(body);
  Invite invite;
  const std::uint8_t kind = reader.read_u8();
  reader.read_into(invite.pin);
  invite.secret = Secret<16>::copy_of(reader.read_view(16));
  const std::size_t count = reader.read_u8();
  if (kind != 1 && kind != 2)
    return invalid("code: of a kind that this version does not know; update Ravine");
  invite.kind = static_cast<CodeKind>(kind);
  if (count == 0 || count > kMaxInviteAddresses) return invalid("code: it names no address to join at");
  for (std::size_t i = 0; i < count; ++i) {
    HostPort address;
    if (!read_address(reader, address))
      return invalid("code: an address in it is malformed; make a new code");
    invite.addresses.push_back(std::move(address));
  }
  if (reader.remaining() != 0) return invalid("code: more in it than this version knows; update Ravine");
  return invite;
}

std::string Invite::server_name() const {
  return join_server_name(secret);
}

PrivateKey Invite::proof_key() const {
  return PrivateKey::from_seed(Secret<32>(derive(secret.view(), "ravine code proof")));
}

Result<> InviteRegister::add(const Invite& invite, std::string name, std::vector<std::string> groups,
                             UnixTime expires, UnixTime now) {
  forget_expired(now);
  const bool nameless_pair = invite.kind == CodeKind::pair && name.empty();
  if (!nameless_pair && !is_valid_node_name(name))
    return invalid(fmt::format(
        "\"{}\" is not a valid name: 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end, and "
        "not 16 characters that look like a peer ID",
        name));
  for (const std::string& group : groups)
    if (!is_valid_node_name(group))
      return invalid(fmt::format("\"{}\" is not a group name: 1 to 63 of a-z, 0-9 and hyphen", group));
  if (expires <= now) return invalid("the code would expire before it exists");
  if (pending_.size() >= kMaxPendingInvites)
    return Error{ErrorKind::limit_reached,
                 fmt::format("{} codes are pending; withdraw some", pending_.size())};
  for (const PendingInvite& pending : pending_)
    if (!name.empty() && pending.name == name && !pending.used_by)
      return Error{
          ErrorKind::already_exists,
          fmt::format("a code for \"{0}\" is pending; withdraw it with \"ravine invite --withdraw {0}\"",
                      name)};
  pending_.push_back({invite.kind, invite.proof_key().id(), invite.server_name(), std::move(name),
                      std::move(groups), expires, std::nullopt});
  return {};
}

std::size_t InviteRegister::withdraw(std::string_view name) {
  return std::erase_if(pending_,
                       [&](const PendingInvite& entry) { return entry.name == name && !entry.used_by; });
}

Result<PendingInvite> InviteRegister::find(const PeerId& proof_key, const PeerId& joiner,
                                           UnixTime now) const {
  for (const PendingInvite& entry : pending_) {
    if (!equal_constant_time(entry.proof_key.view(), proof_key.view())) continue;
    if (entry.expires <= now)
      return Error{ErrorKind::refused,
                   fmt::format("the code for \"{}\" has expired; make a new one", entry.name)};
    if (entry.used_by && *entry.used_by != joiner)
      return Error{ErrorKind::refused,
                   fmt::format("the code for \"{}\" was used before; make a new one", entry.name)};
    return entry;
  }
  return Error{ErrorKind::refused, "no such code here: unknown, expired or withdrawn; make a new one"};
}

bool InviteRegister::consume(const PeerId& proof_key, const PeerId& joiner, UnixTime now) {
  for (PendingInvite& entry : pending_) {
    if (entry.proof_key != proof_key || entry.expires <= now) continue;
    if (entry.used_by) return *entry.used_by == joiner;
    entry.used_by = joiner;
    return true;
  }
  return false;
}

bool InviteRegister::may_try(const IpAddress& source, UnixTime now) const {
  const auto at = failures_.find(failure_prefix(source));
  return at == failures_.end() || at->second.window != now.seconds / 60 ||
         at->second.count < kMaxJoinFailures;
}

void InviteRegister::note_failure(const IpAddress& source, UnixTime now) {
  const std::int64_t window = now.seconds / 60;
  if (failures_.size() >= kMaxFailureSources)
    std::erase_if(failures_, [&](const auto& item) { return item.second.window != window; });
  const auto at = failures_.find(failure_prefix(source));
  // With the table full of this minute's failures from elsewhere, the secret's 128 bits are defence enough.
  if (at == failures_.end() && failures_.size() >= kMaxFailureSources) return;
  Failures& entry = failures_[failure_prefix(source)];
  if (entry.window != window) entry = {window, 0};
  ++entry.count;
}

void InviteRegister::forget_expired(UnixTime now) {
  std::erase_if(pending_, [&](const PendingInvite& entry) { return entry.expires <= now; });
}

std::vector<std::string> InviteRegister::server_names(UnixTime now) const {
  std::vector<std::string> names;
  for (const PendingInvite& entry : pending_)
    if (entry.expires > now) names.push_back(entry.server_name);
  return names;
}

Bytes InviteRegister::encode() const {
  registers::InviteRegister message;
  for (const PendingInvite& entry : pending_) {
    registers::Pending& out = *message.add_entries();
    out.set_kind(static_cast<std::uint32_t>(entry.kind));
    out.set_proof_key(entry.proof_key.bytes.data(), entry.proof_key.bytes.size());
    out.set_server_name(entry.server_name);
    out.set_name(entry.name);
    for (const std::string& group : entry.groups) out.add_groups(group);
    out.set_expires(entry.expires.seconds);
    if (entry.used_by) out.set_used_by(entry.used_by->bytes.data(), entry.used_by->bytes.size());
  }
  Bytes bytes(message.ByteSizeLong());
  ensure(message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())));
  return bytes;
}

Result<InviteRegister> InviteRegister::decode(ByteView encoded) {
  const Error damaged = invalid("the register of codes is damaged; remove it, and make new codes");
  registers::InviteRegister message;
  if (encoded.size() > kMaxRegisterSize ||
      !message.ParseFromArray(encoded.data(), static_cast<int>(encoded.size())) ||
      static_cast<std::size_t>(message.entries_size()) > kMaxPendingInvites)
    return damaged;
  InviteRegister result;
  for (const registers::Pending& in : message.entries()) {
    PendingInvite entry;
    const bool good_kind = in.kind() == 1 || in.kind() == 2;
    if (!good_kind || in.proof_key().size() != kPeerIdSize ||
        (!in.used_by().empty() && in.used_by().size() != kPeerIdSize))
      return damaged;
    entry.kind = static_cast<CodeKind>(in.kind());
    std::copy(in.proof_key().begin(), in.proof_key().end(), entry.proof_key.bytes.begin());
    entry.server_name = in.server_name();
    entry.name = in.name();
    entry.groups.assign(in.groups().begin(), in.groups().end());
    entry.expires = {in.expires()};
    if (!in.used_by().empty()) {
      entry.used_by.emplace();
      std::copy(in.used_by().begin(), in.used_by().end(), entry.used_by->bytes.begin());
    }
    result.pending_.push_back(std::move(entry));
  }
  return result;
}

}  // namespace ravine::identity
