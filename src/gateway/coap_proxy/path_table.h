// Short paths of Matrix requests: version 1 of MSC3079, appendix B, and the route maps that coap-proxy kept
// in its --maps-dir. Only expands; what is not exactly a short path is left as it is spelled. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/coap/message.h"

namespace ravine::gateway::coap_proxy {

// Contents of the map files; an empty text is a missing file.
struct MapFiles {
  std::string routes;        // routes.json: [{"path": …, "method": …}, …]
  std::string event_types;   // event_types.json: ["m.room.message", …]
  std::string query_params;  // query_params.json: ["access_token", …]
};

class PathTable {
 public:
  PathTable() = default;  // no short paths
  static PathTable matrix();
  // Short paths are the routes' indices in base 32, event types and parameter names are indices in base 10,
  // identifiers come without their sigil. Errors: invalid_argument, with the file's name.
  static Result<PathTable> from_maps(const MapFiles& files);

  struct Expanded {
    std::string target;
    std::string method;  // of the route; "" when the table has none
  };
  // From a request's Uri-Path and Uri-Query. nullopt when the first segment is no entry, the number of
  // segments is not its own, an identifier lacks its sigil, or `method` is not the route's.
  std::optional<Expanded> expand(const coap::Message& request, std::string_view method) const;
  bool empty() const { return routes_.empty(); }

 private:
  struct Route {
    std::vector<std::string> segments;  // "{roomId}" stands for an argument
    std::string method;
    bool trailing_slash = false;
  };
  static Route make_route(std::string_view path, std::string_view method);
  bool put_argument(std::string& target, std::string_view pattern, std::string_view argument) const;

  std::map<std::string, Route, std::less<>> routes_;
  std::vector<std::string> event_types_, query_params_;
  bool sigils_ = true;  // identifiers come with them
};

}  // namespace ravine::gateway::coap_proxy
