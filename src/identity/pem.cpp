#include "identity/pem.h"

#include <fmt/format.h>
#include <gnutls/gnutls.h>

namespace ravine::identity {
namespace {

constexpr std::size_t kMaxPemSize = std::size_t{256} * 1024;
constexpr std::string_view kBegin = "-----BEGIN ", kEnd = "-----END ", kDashes = "-----";

Result<Bytes> decode_base64(std::string_view text) {
  std::string packed;
  for (const char c : text)
    if (c != '\n' && c != '\r' && c != ' ' && c != '\t') packed.push_back(c);
  const gnutls_datum_t in{reinterpret_cast<unsigned char*>(packed.data()),
                          static_cast<unsigned>(packed.size())};
  gnutls_datum_t out{};
  const bool good = packed.size() % 4 == 0 && !packed.empty() && gnutls_base64_decode2(&in, &out) == 0;
  wipe({reinterpret_cast<std::uint8_t*>(packed.data()), packed.size()});
  if (!good)
    return Error{ErrorKind::invalid_argument, "PEM: the block is not base64; is the file cut or edited?"};
  Bytes bytes(out.data, out.data + out.size);
  wipe({out.data, out.size});
  gnutls_free(out.data);
  return bytes;
}

}  // namespace

Result<std::vector<PemBlock>> parse_pem_blocks(std::string_view text, std::size_t limit) {
  if (text.size() > kMaxPemSize) return Error{ErrorKind::limit_reached, "PEM: larger than 256 KiB"};
  std::vector<PemBlock> blocks;
  for (std::size_t at = text.find(kBegin); at != text.npos; at = text.find(kBegin, at)) {
    const std::size_t label_begin = at + kBegin.size();
    const std::size_t label_end = text.find(kDashes, label_begin);
    if (label_end == text.npos || label_end - label_begin > 64)
      return Error{ErrorKind::invalid_argument, "PEM: a BEGIN line is not finished"};
    const std::string label(text.substr(label_begin, label_end - label_begin));
    const std::size_t body = label_end + kDashes.size();
    const std::string end_line = fmt::format("{}{}{}", kEnd, label, kDashes);
    const std::size_t end = text.find(end_line, body);
    if (end == text.npos)
      return Error{ErrorKind::invalid_argument,
                   fmt::format("PEM: \"{}\" is missing; is the file cut?", end_line)};
    if (blocks.size() == limit)
      return Error{ErrorKind::limit_reached, fmt::format("PEM: more than {} blocks", limit)};
    Result<Bytes> der = decode_base64(text.substr(body, end - body));
    if (!der) return der.error();
    blocks.push_back({label, std::move(*der)});
    at = end + end_line.size();
  }
  return blocks;
}

std::string encode_pem(std::string_view label, ByteView der) {
  const gnutls_datum_t in{const_cast<unsigned char*>(der.data()), static_cast<unsigned>(der.size())};
  gnutls_datum_t out{};
  ensure(gnutls_base64_encode2(&in, &out) == 0);
  const std::string_view packed(reinterpret_cast<const char*>(out.data), out.size);
  std::string text = fmt::format("{}{}{}\n", kBegin, label, kDashes);
  for (std::size_t at = 0; at < packed.size(); at += 64) {
    text.append(packed.substr(at, 64));
    text.push_back('\n');
  }
  text.append(fmt::format("{}{}{}\n", kEnd, label, kDashes));
  wipe({out.data, out.size});
  gnutls_free(out.data);
  return text;
}

}  // namespace ravine::identity
