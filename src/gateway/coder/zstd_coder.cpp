// The coder `zstd`: a Zstandard frame without its magic number, or the text after a byte that no frame header
// of ours begins with.
#include <openssl/sha.h>
#include <zstd.h>

#include <algorithm>

#include "base/ensure.h"
#include "gateway/coder/coder.h"

namespace ravine::gateway::coder {
namespace {

constexpr std::array<std::uint8_t, 4> kMagic{0x28, 0xb5, 0x2f, 0xfd};  // RFC 8878 §3.1.1
constexpr std::uint8_t kStored = 0xff;  // a frame header descriptor with a reserved bit
constexpr int kLevel = 19;
constexpr int kWindowLog = 20;  // bounds the decoder's memory to 1 MiB

struct Dictionaries {
  explicit Dictionaries(ByteView content)
      : encoding(ZSTD_createCDict(content.data(), content.size(), kLevel), ZSTD_freeCDict),
        decoding(ZSTD_createDDict(content.data(), content.size()), ZSTD_freeDDict) {
    ensure(encoding != nullptr && decoding != nullptr);
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> hash;
    SHA256(content.data(), content.size(), hash.data());
    id = {'z', 's', '1'};
    std::copy_n(hash.begin(), id.size() - 3, id.begin() + 3);
  }
  std::unique_ptr<ZSTD_CDict, decltype(&ZSTD_freeCDict)> encoding;
  std::unique_ptr<ZSTD_DDict, decltype(&ZSTD_freeDDict)> decoding;
  CoderId id{};
};

class ZstdCoder final : public Coder {
 public:
  explicit ZstdCoder(std::shared_ptr<const Dictionaries> dictionaries)
      : dictionaries_(std::move(dictionaries)),
        encoder_(ZSTD_createCCtx(), ZSTD_freeCCtx),
        decoder_(ZSTD_createDCtx(), ZSTD_freeDCtx) {
    ensure(encoder_ != nullptr && decoder_ != nullptr);
    for (const ZSTD_cParameter off : {ZSTD_c_contentSizeFlag, ZSTD_c_checksumFlag, ZSTD_c_dictIDFlag})
      ensure(ZSTD_isError(ZSTD_CCtx_setParameter(encoder_.get(), off, 0)) == 0);
    ensure(ZSTD_isError(ZSTD_CCtx_setParameter(encoder_.get(), ZSTD_c_windowLog, kWindowLog)) == 0);
    ensure(ZSTD_isError(ZSTD_DCtx_setParameter(decoder_.get(), ZSTD_d_windowLogMax, kWindowLog)) == 0);
    ensure(ZSTD_isError(ZSTD_CCtx_refCDict(encoder_.get(), dictionaries_->encoding.get())) == 0);
    ensure(ZSTD_isError(ZSTD_DCtx_refDDict(decoder_.get(), dictionaries_->decoding.get())) == 0);
  }

  Bytes encode(ByteView text, const MessageContext&) override {
    Bytes frame(ZSTD_compressBound(text.size()));
    const std::size_t size =
        ZSTD_compress2(encoder_.get(), frame.data(), frame.size(), text.data(), text.size());
    const bool good = ZSTD_isError(size) == 0 && size > kMagic.size() &&
                      std::equal(kMagic.begin(), kMagic.end(), frame.begin());
    if (!good || size - kMagic.size() > text.size()) {
      Bytes out{kStored};
      out.insert(out.end(), text.begin(), text.end());
      return out;
    }
    return {frame.begin() + kMagic.size(), frame.begin() + static_cast<std::ptrdiff_t>(size)};
  }

  std::optional<Bytes> decode(ByteView coded, const MessageContext&, std::size_t limit) override {
    if (coded.empty()) return std::nullopt;
    if (coded[0] == kStored) {
      if (coded.size() - 1 > limit) return std::nullopt;
      return to_bytes(coded.subspan(1));
    }
    Bytes frame(kMagic.begin(), kMagic.end());
    frame.insert(frame.end(), coded.begin(), coded.end());
    return expand(frame, limit);
  }

  void commit(ByteView, const MessageContext&) override {}
  void reset() override {}
  std::unique_ptr<Coder> clone() const override { return std::make_unique<ZstdCoder>(dictionaries_); }
  CoderId id() const override { return dictionaries_->id; }
  std::string_view name() const override { return "zstd"; }

 private:
  std::optional<Bytes> expand(ByteView frame, std::size_t limit) {
    ZSTD_DCtx_reset(decoder_.get(), ZSTD_reset_session_only);
    ZSTD_inBuffer in{frame.data(), frame.size(), 0};
    Bytes text;
    for (;;) {
      const std::size_t done = text.size();
      // One byte beyond the limit shows that there is more.
      text.resize(std::min(limit + 1, std::max<std::size_t>(2 * done, 4096)));
      ZSTD_outBuffer out{text.data() + done, text.size() - done, 0};
      const std::size_t left = ZSTD_decompressStream(decoder_.get(), &out, &in);
      text.resize(done + out.pos);
      if (ZSTD_isError(left) != 0 || text.size() > limit) return std::nullopt;
      if (left == 0) break;
      if (in.pos == in.size && out.pos == 0) return std::nullopt;  // cut off
    }
    if (in.pos != in.size) return std::nullopt;
    return text;
  }

  std::shared_ptr<const Dictionaries> dictionaries_;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> encoder_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> decoder_;
};

}  // namespace

std::unique_ptr<Coder> make_zstd_coder(ByteView dictionary) {
  return std::make_unique<ZstdCoder>(std::make_shared<const Dictionaries>(dictionary));
}

}  // namespace ravine::gateway::coder
