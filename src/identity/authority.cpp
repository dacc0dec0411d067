#include "identity/authority.h"

#include <fmt/format.h>

#include <algorithm>

#include "identity/fuse_name.h"
#include "identity/time_text.h"
#include "register.pb.h"

namespace ravine::identity {
namespace {

constexpr std::size_t kMaxRegisterSize = std::size_t{16} * 1024 * 1024;

Error invalid(std::string message) {
  return {ErrorKind::invalid_argument, std::move(message)};
}

Result<> check_groups(std::span<const std::string> groups) {
  if (groups.size() > kMaxGroups) return invalid(fmt::format("more than {} groups", kMaxGroups));
  for (const std::string& group : groups)
    if (!is_valid_node_name(group))
      return invalid(fmt::format("\"{}\" is not a group name: 1 to 63 of a-z, 0-9 and hyphen", group));
  return {};
}

Result<> check_name(std::string_view name) {
  if (is_valid_node_name(name)) return {};
  return invalid(
      fmt::format("\"{}\" is not a valid name: 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end, and "
                  "not 16 characters that look like a peer ID",
                  name));
}

bool same_address(const PeerId& a, const PeerId& b) {
  return std::equal(a.bytes.begin(), a.bytes.begin() + kShortPeerIdSize, b.bytes.begin());
}

void to_message(const IssuedEntry& entry, registers::Issued& out) {
  out.set_serial(entry.serial.data(), entry.serial.size());
  out.set_id(entry.id.bytes.data(), entry.id.bytes.size());
  out.set_name(entry.name);
  for (const std::string& group : entry.groups) out.add_groups(group);
  out.set_not_before(entry.not_before.seconds);
  out.set_not_after(entry.not_after.seconds);
  out.set_is_ca(entry.is_ca);
  out.set_superseded(entry.superseded);
  out.set_revoked(entry.revoked.has_value());
  if (entry.revoked) out.set_revoked_at(entry.revoked->seconds);
}

std::optional<IssuedEntry> from_message(const registers::Issued& in) {
  IssuedEntry entry;
  if (in.id().size() != kPeerIdSize || in.serial().empty() || in.serial().size() > kMaxSerialSize)
    return std::nullopt;
  std::copy(in.id().begin(), in.id().end(), entry.id.bytes.begin());
  entry.serial = to_bytes(as_bytes(in.serial()));
  entry.name = in.name();
  entry.groups.assign(in.groups().begin(), in.groups().end());
  entry.not_before = {in.not_before()};
  entry.not_after = {in.not_after()};
  entry.is_ca = in.is_ca();
  entry.superseded = in.superseded();
  if (in.revoked()) entry.revoked = UnixTime{in.revoked_at()};
  return entry;
}

}  // namespace

Result<CertifiedKey> make_root(std::string_view network_name, UnixTime now, RandomSource& random,
                               std::chrono::seconds lifetime) {
  if (Result<> name = check_name(network_name); !name) return name.error().with_context("network name");
  PrivateKey key = PrivateKey::generate(random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(random);
  wanted.common_name = network_name;
  wanted.not_before = now;
  wanted.not_after = now + lifetime;
  wanted.is_ca = true;
  Certificate certificate = sign_certificate(wanted, key);
  return CertifiedKey{std::move(key), std::move(certificate)};
}

Result<CertifiedKey> make_intermediate(const PrivateKey& root_key, const Certificate& root, UnixTime now,
                                       RandomSource& random, std::chrono::seconds lifetime) {
  if (root.id != root_key.id() || !root.may_sign_certificates)
    return invalid(fmt::format("{} is not a CA certificate of this root key", root.describe()));
  if (now > root.not_after)
    return invalid(fmt::format("root {} expired at {}; replace the root first", root.describe(),
                               to_text(root.not_after)));
  PrivateKey key = PrivateKey::generate(random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(random);
  wanted.common_name = fmt::format("{} issuer", root.common_name.substr(0, 48));
  wanted.issuer = root.subject;
  wanted.issuer_key = root.key;
  wanted.not_before = now;
  wanted.not_after = std::min(now + lifetime, root.not_after);
  wanted.is_ca = true;
  wanted.path_length = 0;
  Certificate certificate = sign_certificate(wanted, root_key);
  return CertifiedKey{std::move(key), std::move(certificate)};
}

Result<RootSuccession> replace_root(const PrivateKey& old_key, const Certificate& old_root,
                                    const NetworkHash& network, UnixTime now, RandomSource& random,
                                    std::chrono::seconds lifetime) {
  if (old_root.id != old_key.id() || !old_root.may_sign_certificates)
    return invalid(fmt::format("{} is not a CA certificate of the old root's key", old_root.describe()));
  if (old_root.network.value_or(NetworkHash{old_root.id.bytes}) != network)
    return invalid(fmt::format("root {} is of another network", old_root.describe()));
  if (Result<> name = check_name(old_root.common_name); !name)
    return name.error().with_context("root's common name");
  PrivateKey key = PrivateKey::generate(random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(random);
  wanted.common_name = old_root.common_name;
  wanted.not_before = now;
  wanted.not_after = now + lifetime;
  wanted.is_ca = true;
  wanted.network = network;
  Certificate root = sign_certificate(wanted, key);
  wanted.serial = make_serial(random);
  wanted.issuer = old_root.subject;
  wanted.issuer_key = old_root.key;
  wanted.not_after = std::min(wanted.not_after, old_root.not_after);
  Certificate cross = sign_certificate(wanted, old_key);
  return RootSuccession{CertifiedKey{std::move(key), std::move(root)}, std::move(cross)};
}

UnixTime renew_at(const Certificate& leaf) {
  const std::chrono::seconds lifetime = leaf.not_after - leaf.not_before;
  return leaf.not_before + lifetime * kRenewAfter.count() / kLeafLifetime.count();
}

Result<Authority> Authority::open(AuthorityOptions options, ByteView encoded_register, UnixTime now) {
  if (options.chain.empty() || options.trust == nullptr)
    return invalid("authority: no issuer certificate or network");
  const Certificate& issuer = options.chain.front();
  if (issuer.id != options.key.id() || !issuer.may_sign_certificates)
    return invalid(
        fmt::format("authority: {} is not a CA certificate of the issuer's key", issuer.describe()));
  if (auto problem = options.trust->check_chain(options.chain, now))
    return Error{ErrorKind::unauthenticated, "authority: " + problem->reason};
  registers::IssuedRegister stored;
  if (encoded_register.size() > kMaxRegisterSize ||
      !stored.ParseFromArray(encoded_register.data(), static_cast<int>(encoded_register.size())))
    return invalid("authority: the register of issued certificates is damaged; restore it from a backup");
  Authority authority(std::move(options));
  for (const registers::Issued& message : stored.entries()) {
    std::optional<IssuedEntry> entry = from_message(message);
    if (!entry) return invalid("authority: the register of issued certificates has a damaged entry");
    authority.issued_.push_back(std::move(*entry));
  }
  return authority;
}

Bytes Authority::encode_register() const {
  registers::IssuedRegister message;
  for (const IssuedEntry& entry : issued_) to_message(entry, *message.add_entries());
  Bytes bytes(message.ByteSizeLong());
  ensure(message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())));
  return bytes;
}

bool Authority::is_in_use(const IssuedEntry& entry, UnixTime now) const {
  return entry.not_after + options_.trust->options().grace + options_.trust->options().clock_skew >= now;
}

bool Authority::is_live(const IssuedEntry& entry, UnixTime now) const {
  return !entry.revoked && !entry.superseded && !entry.is_ca && is_in_use(entry, now);
}

const IssuedEntry* Authority::find_live(std::string_view name, UnixTime now) const {
  for (const IssuedEntry& entry : issued_)
    if (entry.name == name && is_live(entry, now)) return &entry;
  return nullptr;
}

Result<> Authority::check_free(const PeerId& id, std::string_view name, const PeerId& holder,
                               UnixTime now) const {
  if (options_.trust->revocations().revokes_key(id))
    return Error{ErrorKind::refused,
                 fmt::format("key {} was revoked; the device needs a new key", id.to_text())};
  for (const IssuedEntry& entry : issued_) {
    if (!is_live(entry, now) || entry.id == holder) continue;
    if (entry.id == id && entry.name != name)
      return Error{ErrorKind::already_exists,
                   fmt::format("key {} already has a certificate as \"{}\"; revoke that first", id.to_text(),
                               entry.name)};
    if (entry.id != id && entry.name == name)
      return Error{ErrorKind::already_exists,
                   fmt::format("the name \"{}\" belongs to peer {}; choose another name, or revoke that peer",
                               name, entry.id.to_text())};
    if (entry.id != id && same_address(entry.id, id))
      return Error{ErrorKind::already_exists,
                   fmt::format("the overlay address of key {} belongs to \"{}\"", id.to_text(), entry.name)};
  }
  return {};
}

Result<std::vector<Certificate>> Authority::sign_leaf(const PublicKey& key, const IssueOptions& options,
                                                      UnixTime now, RandomSource& random) {
  const Certificate& ca = issuer();
  if (now > ca.not_after || now + options_.trust->options().clock_skew < ca.not_before)
    return Error{ErrorKind::refused,
                 fmt::format("the issuer's own certificate is valid from {} to {}, and it is {} here",
                             to_text(ca.not_before), to_text(ca.not_after), to_text(now))};
  const std::chrono::seconds lifetime = options.lifetime.value_or(options_.leaf_lifetime);
  if (lifetime < kMinLeafLifetime) return invalid("a certificate's lifetime is at least 10 seconds");
  forget_expired(now);
  if (issued_.size() >= kMaxIssued)
    return Error{
        ErrorKind::limit_reached,
        fmt::format("the register holds {} certificates that are not yet forgotten", issued_.size())};
  CertificateTemplate wanted;
  wanted.key = key;
  wanted.serial = make_serial(random);
  wanted.common_name = options.name;
  wanted.issuer = ca.subject;
  wanted.issuer_key = ca.key;
  wanted.not_before = now;
  wanted.not_after = std::min(now + lifetime, ca.not_after);
  wanted.overlay = overlay_address(options_.trust->network(), key.id());
  wanted.groups = options.groups;
  std::sort(wanted.groups.begin(), wanted.groups.end());
  wanted.groups.erase(std::unique(wanted.groups.begin(), wanted.groups.end()), wanted.groups.end());
  Certificate leaf = sign_certificate(wanted, options_.key);
  issued_.push_back({leaf.serial, leaf.id, leaf.name, leaf.groups, leaf.not_before, leaf.not_after});
  std::vector<Certificate> chain{std::move(leaf)};
  for (const Certificate& link : options_.chain)
    if (!link.is_self_signed()) chain.push_back(link);
  for (const Certificate& cross : options_.crosses) chain.push_back(cross);
  if (chain.size() > kMaxChain) chain.resize(kMaxChain);
  return chain;
}

Result<std::vector<Certificate>> Authority::issue(ByteView csr, const IssueOptions& options, UnixTime now,
                                                  RandomSource& random) {
  const Result<SigningRequest> request = SigningRequest::parse(csr);
  if (!request) return request.error();
  if (Result<> name = check_name(options.name); !name) return name.error();
  if (Result<> groups = check_groups(options.groups); !groups) return groups.error();
  const PeerId id = request->key.id();
  if (Result<> free = check_free(id, options.name, PeerId{}, now); !free) return free.error();
  Result<std::vector<Certificate>> chain = sign_leaf(request->key, options, now, random);
  if (chain) supersede(id, chain->front().serial);
  return chain;
}

Result<std::vector<Certificate>> Authority::renew(const Certificate& current, ByteView csr, UnixTime now,
                                                  RandomSource& random) {
  const Result<SigningRequest> request = SigningRequest::parse(csr);
  if (!request) return request.error();
  if (options_.trust->revocations().revokes(current))
    return Error{ErrorKind::refused, fmt::format("certificate {} was revoked", current.describe())};
  IssueOptions options{.name = current.name, .groups = current.groups};
  // The newest entry of this holder carries the groups as the operator set them last.
  for (const IssuedEntry& entry : issued_) {
    if (entry.id != current.id || entry.is_ca) continue;
    if (entry.revoked)
      return Error{ErrorKind::refused, fmt::format("certificate {} was revoked", current.describe())};
    options.name = entry.name;
    options.groups = entry.groups;
  }
  const PeerId id = request->key.id();
  if (Result<> free = check_free(id, options.name, current.id, now); !free) return free.error();
  Result<std::vector<Certificate>> chain = sign_leaf(request->key, options, now, random);
  if (chain) {
    supersede(current.id, chain->front().serial);
    supersede(id, chain->front().serial);
  }
  return chain;
}

void Authority::supersede(const PeerId& id, ByteView newest_serial) {
  for (IssuedEntry& entry : issued_) {
    const bool newest =
        std::equal(entry.serial.begin(), entry.serial.end(), newest_serial.begin(), newest_serial.end());
    if (entry.id == id && !newest) entry.superseded = true;
  }
}

void Authority::forget_expired(UnixTime now) {
  std::erase_if(issued_, [&](const IssuedEntry& entry) { return !entry.revoked && !is_in_use(entry, now); });
}

Result<RevocationList> Authority::sign_next_list(std::vector<RevokedEntry> additions, UnixTime now) {
  NetworkTrust& trust = *options_.trust;
  std::vector<RevokedEntry> entries = std::move(additions);
  entries.insert(entries.end(), trust.revocations().entries().begin(), trust.revocations().entries().end());
  // Certificates that could not be used any more anyway need no line. A key is kept as long as one
  // certificate of it can be.
  const auto is_over = [&](const RevokedEntry& listed) {
    bool known = false;
    for (const IssuedEntry& entry : issued_) {
      if (entry.id != listed.key) continue;
      if (is_in_use(entry, now)) return false;
      known = true;
    }
    return known;
  };
  std::erase_if(entries, is_over);
  Result<RevocationList> list = RevocationList::sign(trust.revocations().number() + 1, now, trust.network(),
                                                     std::move(entries), options_.key, options_.chain);
  if (!list) return list.error();
  const Result<bool> accepted = trust.accept_revocation(list->encoded(), now);
  if (!accepted) return accepted.error();
  std::erase_if(issued_, [&](const IssuedEntry& entry) { return entry.revoked && !is_in_use(entry, now); });
  return list;
}

Result<RevocationList> Authority::revoke(std::string_view which, UnixTime now) {
  std::vector<RevokedEntry> additions;
  std::vector<IssuedEntry*> matches;
  bool known = false;
  for (IssuedEntry& entry : issued_) {
    const bool meant =
        entry.name == which || entry.id.matches_text(which) || serial_to_text(entry.serial) == which;
    if (!meant || !is_in_use(entry, now)) continue;
    known = true;
    if (entry.revoked) continue;
    if (entry.id == options_.key.id())
      return Error{ErrorKind::refused, "the issuer cannot revoke itself; use the root's key"};
    additions.push_back({entry.id, entry.serial});
    matches.push_back(&entry);
  }
  if (!known)
    return Error{ErrorKind::not_found,
                 fmt::format("no unexpired certificate has the name, peer ID or serial \"{}\"; see "
                             "`ravine ca list`",
                             which)};
  if (additions.empty())
    return Error{ErrorKind::already_exists, fmt::format("\"{}\" was revoked before", which)};
  for (IssuedEntry* entry : matches) entry->revoked = now;
  Result<RevocationList> list = sign_next_list(std::move(additions), now);
  if (!list)  // nothing was forgotten, so the pointers still hold
    for (IssuedEntry* entry : matches) entry->revoked.reset();
  return list;
}

Result<RevocationList> Authority::revoke_certificate(const Certificate& certificate, UnixTime now) {
  if (certificate.id == options_.key.id())
    return Error{ErrorKind::refused, "the issuer cannot revoke itself; use the root's key"};
  Result<RevocationList> list = sign_next_list({{certificate.id, certificate.serial}}, now);
  if (!list) return list.error();
  for (IssuedEntry& entry : issued_)
    if (entry.id == certificate.id && !entry.revoked) entry.revoked = now;
  return list;
}

Result<> Authority::set_groups(std::string_view name, std::vector<std::string> groups) {
  if (Result<> checked = check_groups(groups); !checked) return checked.error();
  bool found = false;
  for (IssuedEntry& entry : issued_) {
    if (entry.name != name || entry.revoked || entry.superseded || entry.is_ca) continue;
    entry.groups = groups;
    found = true;
  }
  if (found) return {};
  return Error{ErrorKind::not_found, fmt::format("no certificate was issued to \"{}\"", name)};
}

}  // namespace ravine::identity
