#include "gateway/coap_proxy/etag_table.h"

#include <algorithm>

namespace ravine::gateway::coap_proxy {
namespace {

constexpr std::size_t kMaxHttpTag = 256;  // bytes
constexpr std::size_t kHashed = 8;        // bytes

// RFC 9110 §8.8.3: what may stand between the quotes.
bool is_tag_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == 0x21 || (byte >= 0x23 && byte != 0x7f);
  });
}

// FNV-1a, 64 bits. A server that makes two of its tags equal fools its own readers alone.
Bytes hash_of(std::string_view origin, std::string_view http) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::string_view part : {origin, std::string_view("\0", 1), http})
    for (const char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  Bytes tag(kHashed);
  store_big_endian(tag.data(), hash);
  return tag;
}

}  // namespace

std::optional<Bytes> EtagTable::coap_of(std::string_view origin, std::string_view http) {
  std::string_view text = http;
  const bool weak = text.starts_with("W/");
  if (weak) text.remove_prefix(2);
  if (text.size() < 2 || http.size() > kMaxHttpTag || text.front() != '"' || text.back() != '"')
    return std::nullopt;
  text = text.substr(1, text.size() - 2);
  if (!is_tag_text(text)) return std::nullopt;
  if (!weak && !text.empty() && text.size() < kHashed) return to_bytes(as_bytes(text));
  Bytes tag = hash_of(origin, http);
  const auto [at, added] = known_.try_emplace(tag);
  at->second = {std::string(origin), std::string(http)};
  if (!added) return tag;
  order_.push_back(tag);
  if (order_.size() > limit_) {
    known_.erase(order_.front());
    order_.pop_front();
  }
  return tag;
}

std::optional<std::string> EtagTable::http_of(std::string_view origin, ByteView coap) const {
  if (coap.size() == kHashed) {
    const auto at = known_.find(to_bytes(coap));
    if (at == known_.end() || at->second.origin != origin) return std::nullopt;
    return at->second.http;
  }
  if (coap.empty() || coap.size() > kHashed || !is_tag_text(as_text(coap))) return std::nullopt;
  return "\"" + std::string(as_text(coap)) + "\"";
}

}  // namespace ravine::gateway::coap_proxy
