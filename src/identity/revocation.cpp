#include "identity/revocation.h"

#include <fmt/format.h>

#include <algorithm>

namespace ravine::identity {
namespace {

// "RVRL": no DER value starts so, hence a CA's signature over a list is never one over a certificate.
constexpr std::uint32_t kListMagic = 0x5256524c;
constexpr std::uint32_t kPartMagic = 0x52565250;  // "RVRP"
constexpr std::uint8_t kListVersion = 1;
constexpr std::size_t kPartHead = 4 + 1 + 8 + 2 + 2;

Error malformed(std::string_view what) {
  return {ErrorKind::invalid_argument, fmt::format("revocation list: {}", what)};
}

}  // namespace

Result<RevocationList> RevocationList::sign(std::uint64_t number, UnixTime issued_at,
                                            const NetworkHash& network, std::vector<RevokedEntry> entries,
                                            const PrivateKey& signer,
                                            std::span<const Certificate> signer_chain) {
  ensure(number > 0);
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  if (entries.size() > kMaxRevoked)
    return Error{ErrorKind::limit_reached,
                 fmt::format("revocation list: more than {} entries; replace the issuer "
                             "instead (`ravine ca rotate-root --issuer-only`)",
                             kMaxRevoked)};
  if (signer_chain.empty() || signer_chain.size() > kMaxChain || signer_chain.front().id != signer.id())
    return malformed("the signer's chain does not start with the signer's certificate");
  ByteWriter writer;
  writer.write_u32(kListMagic);
  writer.write_u8(kListVersion);
  writer.write(network.view());
  writer.write_u64(number);
  writer.write_u64(static_cast<std::uint64_t>(std::max<std::int64_t>(issued_at.seconds, 0)));
  writer.write_u32(static_cast<std::uint32_t>(entries.size()));
  for (const RevokedEntry& entry : entries) {
    writer.write(entry.key.view());
    writer.write_u8(static_cast<std::uint8_t>(entry.serial.size()));
    writer.write(entry.serial);
  }
  writer.write_u8(static_cast<std::uint8_t>(signer_chain.size()));
  for (const Certificate& certificate : signer_chain) {
    writer.write_u16(static_cast<std::uint16_t>(certificate.der.size()));
    writer.write(certificate.der);
  }
  const auto signature = signer.sign(writer.view());
  writer.write(signature);
  return decode(writer.view());
}

Result<RevocationList> RevocationList::decode(ByteView encoded) {
  if (encoded.size() > kMaxRevocationSize) return malformed("larger than 1 MiB");
  ByteReader reader(encoded);
  if (reader.read_u32() != kListMagic || reader.read_u8() != kListVersion)
    return malformed("not one, or of a newer kind");
  RevocationList list;
  reader.read_into(list.network_.bytes);
  list.number_ = reader.read_u64();
  const std::uint64_t issued = reader.read_u64();
  const std::uint32_t count = reader.read_u32();
  if (!reader.ok() || list.number_ == 0 || issued > INT64_MAX || count > kMaxRevoked)
    return malformed("bad header");
  list.issued_at_.seconds = static_cast<std::int64_t>(issued);
  for (std::uint32_t i = 0; i < count; ++i) {
    RevokedEntry entry;
    reader.read_into(entry.key.bytes);
    const std::size_t size = reader.read_u8();
    entry.serial = to_bytes(reader.read_view(size));
    if (!reader.ok() || size == 0 || size > kMaxSerialSize) return malformed("bad entry");
    if (!list.entries_.empty() && !(list.entries_.back() < entry)) return malformed("entries out of order");
    list.entries_.push_back(std::move(entry));
  }
  const std::size_t certificates = reader.read_u8();
  if (!reader.ok() || certificates == 0 || certificates > kMaxChain) return malformed("bad signer chain");
  for (std::size_t i = 0; i < certificates; ++i) {
    const std::size_t size = reader.read_u16();
    Result<Certificate> certificate = Certificate::parse(reader.read_view(size));
    if (!reader.ok()) return malformed("cut off");
    if (!certificate) return certificate.error().with_context("revocation list");
    list.signer_chain_.push_back(std::move(*certificate));
  }
  list.signed_size_ = encoded.size() - reader.remaining();
  if (reader.remaining() != kSignatureSize) return malformed("cut off, or bytes after its end");
  list.encoded_ = to_bytes(encoded);
  list.index();
  return list;
}

void RevocationList::index() {
  serials_.clear();
  for (const RevokedEntry& entry : entries_) serials_.push_back(entry.serial);
  std::sort(serials_.begin(), serials_.end());
}

bool RevocationList::revokes_key(const PeerId& key) const {
  const auto at =
      std::lower_bound(entries_.begin(), entries_.end(), key,
                       [](const RevokedEntry& entry, const PeerId& wanted) { return entry.key < wanted; });
  return at != entries_.end() && at->key == key;
}

bool RevocationList::revokes_serial(ByteView serial) const {
  const auto less = [](ByteView a, ByteView b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  };
  const auto at = std::lower_bound(serials_.begin(), serials_.end(), serial, less);
  return at != serials_.end() && !less(serial, *at);
}

bool RevocationList::revokes(const Certificate& certificate) const {
  return revokes_key(certificate.id) || revokes_serial(certificate.serial);
}

bool RevocationList::has_valid_signature() const {
  if (signer_chain_.empty()) return false;
  const ByteView all = encoded_;
  return signer_chain_.front().key.verify(all.first(signed_size_), all.subspan(signed_size_));
}

std::vector<Bytes> split_revocation(const RevocationList& list) {
  constexpr std::size_t kPayload = kRevocationPartSize - kPartHead;
  const ByteView all = list.encoded();
  const std::size_t count = (all.size() + kPayload - 1) / kPayload;
  std::vector<Bytes> parts;
  for (std::size_t i = 0; i < count; ++i) {
    ByteWriter writer;
    writer.write_u32(kPartMagic);
    writer.write_u8(kListVersion);
    writer.write_u64(list.number());
    writer.write_u16(static_cast<std::uint16_t>(i));
    writer.write_u16(static_cast<std::uint16_t>(count));
    writer.write(all.subspan(i * kPayload, std::min(kPayload, all.size() - i * kPayload)));
    parts.push_back(writer.take());
  }
  return parts;
}

std::optional<Bytes> RevocationAssembler::feed(ByteView part) {
  ByteReader reader(part);
  if (part.size() > kRevocationPartSize || reader.read_u32() != kPartMagic ||
      reader.read_u8() != kListVersion)
    return std::nullopt;
  const std::uint64_t number = reader.read_u64();
  const std::size_t index = reader.read_u16(), count = reader.read_u16();
  if (!reader.ok() || reader.remaining() == 0 || count > kMaxRevocationParts || index >= count)
    return std::nullopt;
  if (number < number_) return std::nullopt;
  if (number > number_ || count != count_) parts_.clear();
  number_ = number;
  count_ = count;
  parts_[index] = to_bytes(reader.rest());
  if (parts_.size() < count) return std::nullopt;
  Bytes whole;
  for (const auto& [position, bytes] : parts_) whole.insert(whole.end(), bytes.begin(), bytes.end());
  // Only a complete list may be repeated; nothing is kept of it.
  parts_.clear();
  number_ = 0;
  return whole;
}

}  // namespace ravine::identity
