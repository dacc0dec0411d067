// The server half of Exchanger.
#include <algorithm>

#include "gateway/coap/exchanger.h"

namespace ravine::gateway::coap {
namespace {

constexpr std::size_t kSliceOptions = 24;  // bytes that ETag, Block1, Block2, Size2 and the marker may add

}  // namespace

template <class Held>
std::size_t Exchanger::count_of(const std::map<HeldKey, Held>& held, const SocketAddress& peer) const {
  std::size_t count = 0;
  for (auto at = held.lower_bound({peer, {}}); at != held.end() && at->first.first == peer; ++at) ++count;
  return count;
}

void Exchanger::expire_held(Instant now) {
  std::erase_if(uploads_, [&](const auto& entry) {
    if (entry.second.expires_at > now) return false;
    held_bytes_ -= entry.second.counted;
    return true;
  });
  while (!serving_.empty() && serving_.begin()->second.expires_at <= now) {
    dismiss(now, serving_.begin()->first);
  }
  std::erase_if(kept_, [&](const auto& entry) {
    if (entry.second.expires_at > now) return false;
    held_bytes_ -= entry.second.counted;
    return true;
  });
}

// Kept answers can be made again, uploads cannot: answers go first, the one that was asked for longest ago.
bool Exchanger::make_room(std::size_t bytes) {
  while (held_bytes_ + bytes > options_.held_bytes && !kept_.empty()) {
    const auto oldest = std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
      return a.second.expires_at < b.second.expires_at;
    });
    held_bytes_ -= oldest->second.counted;
    kept_.erase(oldest);
  }
  return held_bytes_ + bytes <= options_.held_bytes;
}

void Exchanger::handle(Instant now, RequestReceived& event) {
  Message request = std::move(event.request);
  Serving serving;
  std::uint64_t security = 0;
  if (protection_ != nullptr) {
    Protection::Opened opened = protection_->open_request(now, event.from, request);
    if (opened.refused) {
      // A refusal that asks for nothing (class 0) means silence.
      if (!is_response(opened.message.code) || !endpoint_.respond(now, event.id, std::move(opened.message))) {
        endpoint_.dismiss(now, event.id);
      }
      return;
    }
    serving.binding = opened.binding;
    security = opened.security;
    if (serving.binding != 0) endpoint_.mark_verified(now, event.from);
    opened.message.token = request.token;
    request = std::move(opened.message);
  }
  serving.from = event.from;
  serving.key = transfer_key(request);
  serving.code = request.code;
  serving.token = request.token;
  bool malformed1 = false;
  bool malformed2 = false;
  serving.block1 = block_of(request, kBlock1, malformed1);
  serving.block2 = block_of(request, kBlock2, malformed2);
  if (malformed1 || malformed2) return refuse(now, event.id, serving, Code::bad_request, std::nullopt);
  if (serving.block1 && !take_upload(now, event.id, request, serving)) return;
  if (!is_safe(request.code)) serving.body_tag = entity_tag_of(request.payload);
  if (answer_from_kept(now, event.id, request, serving)) return;
  const std::optional<std::uint64_t> observe = request.uint_option(kObserve);
  if (is_safe(request.code) && observe == 1) {
    if (const std::optional<ObserverId> known = observers_.find(event.from, serving.token))
      remove_observer(*known);
  }
  serving.wants_observe = is_safe(request.code) && observe == 0;
  const bool unproved = !event.verified && serving.binding == 0 && options_.endpoint.amplification != 0;
  if (serving.wants_observe && unproved) return endpoint_.demand_proof(now, event.id);
  serving.expires_at = now + options_.endpoint.timing.exchange_lifetime();
  for (const std::uint16_t number : {kBlock1, kSize1}) request.remove(number);
  if (serving.block2) request.remove(kBlock2);
  const bool secured = serving.binding != 0;
  serving_.emplace(event.id, std::move(serving));
  events_.push_back(
      Serve{event.id, event.from, std::move(request), event.verified || secured, secured, security});
}

// False while blocks are missing; then the peer was answered. When true, the request has its whole body.
bool Exchanger::take_upload(Instant now, RequestId id, Message& request, Serving& serving) {
  const HeldKey key{serving.from, serving.key};
  auto at = uploads_.find(key);
  const auto too_large = [&] {
    if (at != uploads_.end()) {
      held_bytes_ -= at->second.counted;
      uploads_.erase(at);
    }
    refuse(now, id, serving, Code::request_entity_too_large, static_cast<std::uint32_t>(options_.max_body));
    return false;
  };
  if (request.uint_option(kSize1).value_or(0) > options_.max_body) return too_large();
  if (at == uploads_.end()) {
    if (serving.block1->number != 0) {
      refuse(now, id, serving, Code::request_entity_incomplete, std::nullopt);
      return false;
    }
    const bool many = count_of(uploads_, serving.from) >= options_.held_per_peer;
    if (many || uploads_.size() >= options_.held_bodies) {
      refuse(now, id, serving, Code::service_unavailable, std::nullopt);
      return false;
    }
    at = uploads_.emplace(key, Upload{BodyAssembler(options_.max_body), 0, now}).first;
  }
  Upload& upload = at->second;
  upload.expires_at = now + options_.hold;
  if (!make_room(request.payload.size() + serving.key.size())) {
    held_bytes_ -= upload.counted;
    uploads_.erase(at);
    refuse(now, id, serving, Code::service_unavailable, std::nullopt);
    return false;
  }
  using Outcome = BodyAssembler::Outcome;
  const Outcome outcome = upload.body.add(*serving.block1, request.payload);
  held_bytes_ -= upload.counted;
  upload.counted = upload.body.size() + serving.key.size();
  held_bytes_ += upload.counted;
  switch (outcome) {
    case Outcome::more:
    case Outcome::repeated:
      refuse(now, id, serving, Code::continue_, std::nullopt);
      return false;
    case Outcome::gap:
      refuse(now, id, serving, Code::request_entity_incomplete, std::nullopt);
      return false;
    case Outcome::malformed:
      refuse(now, id, serving, Code::bad_request, std::nullopt);
      return false;
    case Outcome::too_large:
      return too_large();
    case Outcome::complete:
      break;
  }
  request.payload = upload.body.take();
  held_bytes_ -= upload.counted;
  uploads_.erase(at);
  return true;
}

// A response without body that the machine gives by itself.
void Exchanger::refuse(Instant now, RequestId id, const Serving& serving, Code code,
                       std::optional<std::uint32_t> size1) {
  Message response;
  response.code = code;
  if (size1) response.add_uint(kSize1, *size1);
  if (serving.block1) {
    Block block = *serving.block1;
    block.more = code == Code::continue_ ? true : block.more;
    block.exponent = std::min(block.exponent, options_.block_exponent);
    response.add(kBlock1, block.encode());
  }
  send_response(now, id, serving, std::move(response));
}

bool Exchanger::answer_from_kept(Instant now, RequestId id, const Message& request, const Serving& serving) {
  const auto at = kept_.find({serving.from, serving.key});
  const bool later = serving.block2 && serving.block2->number > 0;
  if (at == kept_.end()) {
    // The answer is gone. Asking the owner again would repeat an effect, or lack the body that FETCH asked
    // by.
    if (!later || request.code == Code::get) return false;
    refuse(now, id, serving, Code::request_entity_incomplete, std::nullopt);
    return true;
  }
  Kept& kept = at->second;
  const bool parked = !kept.parked_for.empty() && kept.parked_for == serving.body_tag;
  if (!later && !parked) return false;
  kept.expires_at = now + options_.hold;
  send_response(now, id, serving, slice(serving, kept.head, kept.body, endpoint_.room_for_response(now, id)));
  return true;
}

Result<> Exchanger::respond(Instant now, RequestId request, Message response) {
  const auto at = serving_.find(request);
  if (at == serving_.end()) return Error{ErrorKind::not_found, "the request is answered or expired"};
  const Serving serving = std::move(at->second);
  serving_.erase(at);
  if (response.payload.size() > options_.max_body) {
    response = Message{};
    response.code = Code::internal_server_error;
  }
  if (serving.observer != 0) {
    if (const Observer* observer = observers_.find(serving.observer); observer && is_success(response.code)) {
      response.set_uint(kObserve, observer->sequence);
    } else {
      remove_observer(serving.observer);
    }
  }
  const bool later = serving.block2 && serving.block2->number > 0;
  const std::size_t sealing = sealing_bytes(serving.binding);
  const std::size_t room = endpoint_.room_for_response(now, request);
  const std::size_t whole =
      encoded_size(response) + serving.token.size() + (serving.block1 ? 5 : 0) + sealing;
  const std::size_t wanted = std::size_t{16}
                             << (serving.block2 ? serving.block2->exponent : options_.block_exponent);
  if (!later && whole <= room && response.payload.size() <= wanted) {
    send_response(now, request, serving, std::move(response));
    return {};
  }
  Bytes body = std::move(response.payload);
  response.payload.clear();
  if (!body.empty() && !response.has(kEtag)) response.add(kEtag, entity_tag_of(body));
  Message first = slice(serving, response, body, room);
  bool malformed = false;
  const std::optional<Block> block = block_of(first, kBlock2, malformed);
  const bool unproved = encoded_size(first) + serving.token.size() + sealing > room;
  if (unproved || (block && block->more)) {
    Kept kept{std::move(response), std::move(body), 0, {}, now + options_.hold};
    if (unproved && !is_safe(serving.code)) kept.parked_for = serving.body_tag;
    keep({serving.from, serving.key}, std::move(kept));
  }
  send_response(now, request, serving, std::move(first));
  return {};
}

// The block of `body` that the request asks for, no larger than may be sent.
Message Exchanger::slice(const Serving& serving, const Message& head, ByteView body, std::size_t room) const {
  Message piece = head;
  const Block asked = serving.block2.value_or(Block{0, false, options_.block_exponent});
  const std::size_t sealing = sealing_bytes(serving.binding);
  const std::size_t used = encoded_size(head) + serving.token.size() + kSliceOptions + sealing;
  const std::uint8_t limit = std::min(asked.exponent, options_.block_exponent);
  // Below 16 bytes of room the smallest block is made all the same; the endpoint then asks for proof of the
  // address.
  const std::uint8_t exponent = exponent_for(room > used ? room - used : 0, limit).value_or(0);
  const std::size_t size = std::size_t{16} << exponent;
  const std::size_t offset = asked.offset();
  if (offset > 0 && offset >= body.size()) {
    Message refusal;
    refusal.code = Code::bad_request;
    return refusal;
  }
  Block block;
  block.exponent = exponent;
  block.number = static_cast<std::uint32_t>(offset / size);
  const std::size_t length = std::min(size, body.size() - offset);
  block.more = offset + length < body.size();
  piece.set(kBlock2, block.encode());
  if (offset == 0) piece.set_uint(kSize2, body.size());
  piece.payload = to_bytes(body.subspan(offset, length));
  return piece;
}

bool Exchanger::keep(const HeldKey& key, Kept kept) {
  if (const auto old = kept_.find(key); old != kept_.end()) {
    held_bytes_ -= old->second.counted;
    kept_.erase(old);
  }
  if (count_of(kept_, key.first) >= options_.held_per_peer) {
    auto oldest = kept_.lower_bound({key.first, {}});
    for (auto at = oldest; at != kept_.end() && at->first.first == key.first; ++at) {
      if (at->second.expires_at < oldest->second.expires_at) oldest = at;
    }
    held_bytes_ -= oldest->second.counted;
    kept_.erase(oldest);
  }
  kept.counted = kept.body.size() + encoded_size(kept.head) + key.second.size();
  if (kept_.size() >= options_.held_bodies || !make_room(kept.counted)) return false;
  held_bytes_ += kept.counted;
  kept_.emplace(key, std::move(kept));
  return true;
}

void Exchanger::send_response(Instant now, RequestId id, const Serving& serving, Message response) {
  if (serving.block1 && !response.has(kBlock1)) response.add(kBlock1, serving.block1->encode());
  if (serving.binding != 0 && protection_ != nullptr) {
    Result<Message> sealed = protection_->seal_response(serving.binding, response);
    if (serving.observer == 0) protection_->forget(serving.binding);
    if (!sealed) return endpoint_.dismiss(now, id);
    response = std::move(*sealed);
  }
  if (!endpoint_.respond(now, id, std::move(response))) endpoint_.dismiss(now, id);
}

void Exchanger::dismiss(Instant now, RequestId request) {
  const auto at = serving_.find(request);
  if (at != serving_.end()) {
    if (at->second.observer != 0) remove_observer(at->second.observer);
    if (at->second.binding != 0) protection_->forget(at->second.binding);
    serving_.erase(at);
  }
  endpoint_.dismiss(now, request);
}

}  // namespace ravine::gateway::coap
