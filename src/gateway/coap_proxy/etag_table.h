// HTTP entity tags as CoAP's 1–8 bytes, and back. Short strong tags are their own characters; others are 8
// bytes of hash, remembered while there is room. Pure.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace ravine::gateway::coap_proxy {

class EtagTable {
 public:
  explicit EtagTable(std::size_t entries = 1024) : limit_(entries) {}

  // `http` as in the ETag field, with quotes; `origin` keeps servers apart. nullopt when it is no entity tag
  // or over 256 bytes.
  std::optional<Bytes> coap_of(std::string_view origin, std::string_view http);
  // nullopt: not one that we made, or forgotten.
  std::optional<std::string> http_of(std::string_view origin, ByteView coap) const;
  std::size_t size() const { return known_.size(); }

 private:
  struct Known {
    std::string origin, http;
  };
  std::size_t limit_;
  std::map<Bytes, Known> known_;
  std::deque<Bytes> order_;  // oldest first
};

}  // namespace ravine::gateway::coap_proxy
