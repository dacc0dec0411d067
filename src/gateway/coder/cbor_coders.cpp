// The coders `cbor` and `cbor-deflate`.
//   packed text:  00 text  |  01 varint(head size) head CBOR of the body
//   cbor-deflate: 00 text  |  01 raw deflate of the packed text
#include <openssl/sha.h>
#include <zlib.h>

#include <algorithm>

#include "base/ensure.h"
#include "gateway/cbor/json_cbor.h"
#include "gateway/coder/coder.h"

namespace ravine::gateway::coder {
namespace {

constexpr std::uint8_t kStored = 0, kPacked = 1;

Bytes stored(ByteView text) {
  Bytes out{kStored};
  out.insert(out.end(), text.begin(), text.end());
  return out;
}

Bytes pack(ByteView text) {
  // The body of a message follows the first empty line; a text without one is a body as a whole.
  const std::size_t blank = as_text(text).find("\n\n");
  const bool bare = !text.empty() && (text[0] == '{' || text[0] == '[');
  const std::size_t head = bare ? 0 : blank == std::string_view::npos ? text.size() : blank + 2;
  const auto body = cbor::exact_cbor_of_json(text.subspan(head));
  if (!body) return stored(text);
  ByteWriter out;
  out.write_u8(kPacked);
  out.write_varint(head);
  out.write(text.first(head));
  out.write(*body);
  return out.size() <= text.size() ? out.take() : stored(text);
}

std::optional<Bytes> unpack(ByteView coded, std::size_t limit) {
  ByteReader in(coded);
  const std::uint8_t kind = in.read_u8();
  if (!in.ok() || kind > kPacked) return std::nullopt;
  if (kind == kStored) {
    if (in.remaining() > limit) return std::nullopt;
    return to_bytes(in.rest());
  }
  const std::uint64_t size = in.read_varint();
  if (!in.ok() || size > in.remaining() || size > limit) return std::nullopt;
  Bytes text = to_bytes(in.read_view(static_cast<std::size_t>(size)));
  const auto body = cbor::json_of_cbor(in.rest(), cbor::Keys::text, {.bytes = limit - text.size()});
  if (!body) return std::nullopt;
  text.insert(text.end(), body->begin(), body->end());
  return text;
}

class CborCoder final : public Coder {
 public:
  Bytes encode(ByteView text, const MessageContext&) override { return pack(text); }
  std::optional<Bytes> decode(ByteView coded, const MessageContext&, std::size_t limit) override {
    return unpack(coded, limit);
  }
  void commit(ByteView, const MessageContext&) override {}
  void reset() override {}
  std::unique_ptr<Coder> clone() const override { return std::make_unique<CborCoder>(); }
  CoderId id() const override { return {'c', 'b', 'o', 'r', '1'}; }
  std::string_view name() const override { return "cbor"; }
};

constexpr std::size_t kWindow = std::size_t{32} << 10;  // of deflate
// A packed text is at most as long as its text and this.
constexpr std::size_t kPackedExtra = 1;

class CborDeflateCoder final : public Coder {
 public:
  explicit CborDeflateCoder(ByteView dictionary) {
    const ByteView used = dictionary.size() > kWindow ? dictionary.last(kWindow) : dictionary;
    dictionary_ = to_bytes(used);
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> hash;
    SHA256(dictionary_.data(), dictionary_.size(), hash.data());
    id_ = {'c', 'd', '1'};
    std::copy_n(hash.begin(), id_.size() - 3, id_.begin() + 3);
  }

  Bytes encode(ByteView text, const MessageContext&) override {
    const Bytes packed = pack(text);
    z_stream stream{};
    ensure(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    if (!dictionary_.empty())
      ensure(deflateSetDictionary(&stream, dictionary_.data(), static_cast<uInt>(dictionary_.size())) ==
             Z_OK);
    Bytes out(deflateBound(&stream, packed.size()) + 1);
    out[0] = kPacked;
    stream.next_in = const_cast<Bytef*>(packed.data());
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = out.data() + 1;
    stream.avail_out = static_cast<uInt>(out.size() - 1);
    const int status = deflate(&stream, Z_FINISH);
    const std::size_t size = 1 + stream.total_out;
    deflateEnd(&stream);
    if (status != Z_STREAM_END || size > text.size()) return stored(text);
    out.resize(size);
    return out;
  }

  std::optional<Bytes> decode(ByteView coded, const MessageContext&, std::size_t limit) override {
    if (coded.empty()) return std::nullopt;
    if (coded[0] == kStored) return unpack(coded, limit);
    if (coded[0] != kPacked) return std::nullopt;
    const auto packed = inflate_whole(coded.subspan(1), limit + kPackedExtra);
    if (!packed) return std::nullopt;
    return unpack(*packed, limit);
  }

  void commit(ByteView, const MessageContext&) override {}
  void reset() override {}
  std::unique_ptr<Coder> clone() const override { return std::make_unique<CborDeflateCoder>(dictionary_); }
  CoderId id() const override { return id_; }
  std::string_view name() const override { return "cbor-deflate"; }

 private:
  std::optional<Bytes> inflate_whole(ByteView coded, std::size_t limit) const {
    z_stream stream{};
    ensure(inflateInit2(&stream, -15) == Z_OK);
    if (!dictionary_.empty())
      ensure(inflateSetDictionary(&stream, dictionary_.data(), static_cast<uInt>(dictionary_.size())) ==
             Z_OK);
    stream.next_in = const_cast<Bytef*>(coded.data());
    stream.avail_in = static_cast<uInt>(coded.size());
    Bytes out;
    int status = Z_OK;
    while (status == Z_OK && out.size() < limit) {
      const std::size_t done = out.size();
      out.resize(std::min(limit, std::max<std::size_t>(2 * done, 4096)));
      stream.next_out = out.data() + done;
      stream.avail_out = static_cast<uInt>(out.size() - done);
      status = inflate(&stream, Z_NO_FLUSH);
      out.resize(out.size() - stream.avail_out);
      if (out.size() == done && status == Z_OK) break;  // the input is cut off
    }
    const bool whole = status == Z_STREAM_END && stream.avail_in == 0;
    inflateEnd(&stream);
    if (!whole) return std::nullopt;
    return out;
  }

  Bytes dictionary_;
  CoderId id_{};
};

}  // namespace

std::unique_ptr<Coder> make_cbor_coder() {
  return std::make_unique<CborCoder>();
}

std::unique_ptr<Coder> make_cbor_deflate_coder(ByteView dictionary) {
  return std::make_unique<CborDeflateCoder>(dictionary);
}

}  // namespace ravine::gateway::coder
