// The machine's state; coap_to_http.cpp has requests and responses, coap_watch.cpp observation. Internal.
#pragma once

#include <deque>
#include <map>

#include "gateway/coap_proxy/coap_to_http.h"

namespace ravine::gateway::coap_proxy {

struct CoapToHttp::Impl {
  // A request at a server.
  struct Open {
    coap::RequestId request = 0;  // 0: the poll of a watch
    SocketAddress from;
    MappedRequest mapped;
    std::string watch;  // asked to observe this, or polls it
    Instant deadline = Instant::never();
  };
  // An observed resource; its name says everything that tells its representations apart.
  struct Watch {
    MappedRequest mapped;
    bool sync = false;  // Matrix: news since `since`, none of which may be lost
    std::string since;
    UpstreamId under_way = 0;
    Instant next = Instant::never();
    bool held = false;  // sync: the last news are not confirmed
    unsigned failures = 0;
    coap::Message last;
  };

  Impl(CoapToHttpOptions given, RandomSource& random);

  // coap_to_http.cpp
  void drain(Instant now);
  void serve(Instant now, coap::Serve& serve);
  UpstreamId ask(Instant now, Open open, core::HttpRequest request, bool long_poll);
  void respond(Instant now, coap::RequestId request, coap::Message message);
  void handle_response(Instant now, UpstreamId id, core::HttpResponse response);
  void handle_failure(Instant now, UpstreamId id, UpstreamError error);
  void expire(Instant now);
  std::size_t waiting_of(const SocketAddress& peer) const;

  // coap_watch.cpp
  void begin_watch(Instant now, const Open& open, const core::HttpResponse& response,
                   const coap::Message& message);
  void poll_watch(Instant now, const std::string& name, Watch& watch);
  void handle_polled(Instant now, const std::string& name, core::HttpResponse response);
  void handle_poll_failed(Instant now, const std::string& name, UpstreamError error);
  void end_watch(const std::string& name);
  void advance_watches(Instant now);
  bool is_observed(const std::string& name) const;
  Duration interval_of(const coap::Message& message) const;

  CoapToHttpOptions options;
  coap::OscoreProtection protection;
  coap::Exchanger exchanger;
  EtagTable etags;
  std::map<UpstreamId, Open> open;
  std::map<std::string, Watch> watches;
  std::map<std::uint64_t, std::string> tokens;  // last Authorization of each OSCORE context (MSC3079)
  std::deque<CoapUpstreamRequest> asked;
  std::deque<UpstreamId> withdrawn;
  UpstreamId next_id = 1;
  CoapToHttpCounters counters;
};

// The code and text for a server that gave no response.
Refused refusal_of(UpstreamError error);
std::string watch_name(const MappedRequest& mapped);

}  // namespace ravine::gateway::coap_proxy
