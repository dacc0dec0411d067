// A short Matrix session as a trace: a login, a first sync, and sends with the syncs that echo them.
#pragma once

#include <fmt/format.h>

#include "lab/trace.h"

namespace ravine::lab {

inline Trace session_of(unsigned sends) {
  const std::string api = "/_matrix/client/v3/", bearer = "Bearer syt_a_token";
  Trace trace;
  trace.push_back({"login", "POST", api + "login", "", R"({"type":"m.login.password","password":"x"})", 200,
                   R"({"user_id":"@a:b.example","access_token":"syt_a_token"})"});
  trace.push_back({"initial_sync",
                   "GET",
                   api + "sync?timeout=0",
                   bearer,
                   {},
                   200,
                   R"({"next_batch":"s0","rooms":{"join":{"!r:b.example":{}}}})"});
  for (unsigned i = 1; i <= sends; ++i) {
    const std::string event = fmt::format(R"("event_id":"$event{}")", i);
    trace.push_back({"send", "PUT", fmt::format("{}rooms/%21r%3Ab.example/send/m.room.message/m{}", api, i),
                     bearer, fmt::format(R"({{"body":"message {}","msgtype":"m.text"}})", i), 200,
                     "{" + event + "}"});
    trace.push_back(
        {"sync",
         "GET",
         fmt::format("{}sync?timeout=30000&since=s{}", api, i - 1),
         bearer,
         {},
         200,
         fmt::format(R"({{"next_batch":"s{0}","rooms":{{"join":{{"!r:b.example":{{"timeline":{{"events":[)"
                     R"({{{1},"unsigned":{{"transaction_id":"m{0}"}}}}]}}}}}}}}}})",
                     i, event)});
  }
  return trace;
}

}  // namespace ravine::lab
