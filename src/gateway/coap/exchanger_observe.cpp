// Observation as a server: registrations and notifications.
#include "gateway/coap/exchanger.h"

namespace ravine::gateway::coap {

std::size_t Exchanger::sealing_bytes(std::uint64_t binding) const {
  return binding != 0 ? protection_->overhead_bytes() : 0;
}

Result<ObserverId> Exchanger::accept_observer(Instant now, RequestId request, const std::string& resource) {
  const auto at = serving_.find(request);
  if (at == serving_.end()) return Error{ErrorKind::not_found, "the request is answered or expired"};
  Serving& serving = at->second;
  if (!serving.wants_observe) {
    return Error{ErrorKind::invalid_argument, "the request does not ask to observe: answer it as it is"};
  }
  Observer observer;
  observer.peer = serving.from;
  observer.token = serving.token;
  observer.resource = resource;
  observer.transfer_key = serving.key;
  observer.binding = serving.binding;
  observer.sequence = 1;
  Result<ObserverId> added = observers_.add(now, std::move(observer));
  if (added) serving.observer = *added;
  return added;
}

bool Exchanger::is_settled(const std::string& resource) const {
  for (const ObserverId id : observers_.observers_of(resource))
    if (observers_.find(id)->in_flight != 0 || latest_.contains(id)) return false;
  return true;
}

void Exchanger::remove_observer(ObserverId id) {
  const Observer* observer = observers_.find(id);
  if (observer == nullptr) return;
  if (observer->in_flight != 0) endpoint_.cancel(observer->in_flight);
  if (observer->binding != 0) protection_->forget(observer->binding);
  latest_.erase(id);
  observers_.remove(id);
}

void Exchanger::notify(Instant now, const std::string& resource, const Message& response) {
  const auto shared = std::make_shared<const Message>(response);
  for (const ObserverId id : observers_.observers_of(resource)) {
    notify_one(now, *observers_.find(id), shared);
    if (!is_success(response.code)) remove_observer(id);
  }
  drain(now);
}

void Exchanger::notify_one(Instant now, Observer& observer, const std::shared_ptr<const Message>& response) {
  const ObserverId id = observer.id;
  const bool final = !is_success(response->code);
  bool repeat_confirmable = false;
  if (observer.in_flight != 0 && endpoint_.is_waiting(observer.in_flight)) {
    endpoint_.cancel(observer.in_flight);
    observer.in_flight = 0;
    repeat_confirmable = true;
  }
  if (observer.in_flight != 0 && !final) {
    latest_[id] = response;  // RFC 7641 §4.5.2: one at a time; the latest follows
    return;
  }
  Serving serving;
  serving.from = observer.peer;
  serving.key = observer.transfer_key;
  serving.token = observer.token;
  serving.binding = observer.binding;
  const bool confirmable = observers_.number_next(now, observer) || repeat_confirmable;
  Message head = *response;
  Bytes body = std::move(head.payload);
  head.payload.clear();
  if (!final) head.set_uint(kObserve, observer.sequence);
  const std::size_t room = options_.endpoint.max_message;
  Message message = head;
  message.payload = body;
  if (encoded_size(message) + serving.token.size() + sealing_bytes(serving.binding) > room ||
      body.size() > (std::size_t{16} << options_.block_exponent)) {
    if (!head.has(kEtag)) head.add(kEtag, entity_tag_of(body));
    message = slice(serving, head, body, room);
    head.remove(kObserve);
    keep({serving.from, serving.key}, Kept{std::move(head), std::move(body), 0, {}, now + options_.hold});
  }
  if (observer.binding != 0) {
    Result<Message> sealed = protection_->seal_response(observer.binding, message);
    if (!sealed) return remove_observer(id);
    message = std::move(*sealed);
  }
  message.token = observer.token;
  SeparateOptions how;
  how.confirmable = confirmable && !final;
  how.replace_key = "observe " + std::to_string(id);
  how.context = id;
  const Result<ExchangeId> sent = endpoint_.send_separate(now, observer.peer, std::move(message), how);
  // With a full queue the observer keeps what it has until the next change.
  if (sent && how.confirmable) observer.in_flight = *sent;
}

void Exchanger::handle(Instant now, SeparateOutcome& event) {
  Observer* observer = observers_.find(event.context);
  if (observer == nullptr || observer->peer != event.to) return;
  if (!event.delivered) {
    observer->in_flight = 0;
    return remove_observer(event.context);  // RFC 7641 §4.5: nobody listens
  }
  observer->in_flight = 0;
  observers_.handle_confirmed(now, *observer);
  if (const auto held = latest_.find(event.context); held != latest_.end()) {
    const std::shared_ptr<const Message> latest = std::move(held->second);
    latest_.erase(held);
    notify_one(now, *observer, latest);
  }
}

}  // namespace ravine::gateway::coap
