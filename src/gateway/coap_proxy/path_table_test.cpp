#include "gateway/coap_proxy/path_table.h"

#include <gtest/gtest.h>

#include "gateway/coap/uri.h"

namespace ravine::gateway::coap_proxy {
namespace {

std::string expand(const PathTable& table, std::string_view target, std::string_view method = "GET") {
  coap::Message message;
  message.code = coap::Code::get;
  EXPECT_TRUE(coap::add_target(message, target).ok());
  const auto expanded = table.expand(message, method);
  return expanded ? expanded->target : "as it is";
}

TEST(PathTable, expands_the_short_paths_of_msc3079) {
  const PathTable table = PathTable::matrix();
  EXPECT_EQ(expand(table, "/9/!7mqP7DYBUOmwAweF:localhost/m.room.message/$.AAABeH6obLU"),
            "/_matrix/client/r0/rooms/!7mqP7DYBUOmwAweF:localhost/send/m.room.message/$.AAABeH6obLU");
  EXPECT_EQ(expand(table, "/7?since=s1&timeout=0"), "/_matrix/client/r0/sync?since=s1&timeout=0");
  EXPECT_EQ(expand(table, "/0"), "/_matrix/client/versions");
  EXPECT_EQ(expand(table, "/n"), "/_matrix/client/r0/pushrules/");
  EXPECT_EQ(expand(table, "/u/!r:s/$e"), "/_matrix/client/r0/rooms/!r:s/report/$e");
  EXPECT_EQ(expand(table, "/L/%23room:s"), "/_matrix/client/r0/join/%23room:s");
}

TEST(PathTable, leaves_ordinary_paths_that_look_short_alone) {
  const PathTable table = PathTable::matrix();
  for (const char* target : {"/v1/things", "/a/b", "/7/more", "/9", "/9/room/m.room.message/1", "/10/x", "/",
                             "/_matrix/client/r0/sync", "/9/!r:s/m.room.message/1/2", "/u//$e"})
    EXPECT_EQ(expand(table, target), "as it is") << target;
}

PathTable maps() {
  MapFiles files;
  files.routes = R"([{"path":"/_matrix/client/r0/sync","method":"get","name":"sync"},
      {"path":"/_matrix/client/r0/rooms/{roomId}/send/{eventType}/{txnId}","method":"put","name":""}])";
  files.event_types = R"(["m.room.member","m.room.message"])";
  files.query_params = R"(["access_token","since"])";
  return *PathTable::from_maps(files);
}

TEST(PathTable, expands_routes_of_a_maps_folder) {
  const PathTable table = maps();
  EXPECT_EQ(expand(table, "/0?1=s5&x=2"), "/_matrix/client/r0/sync?since=s5&x=2");
  EXPECT_EQ(expand(table, "/1/room:s/1/t", "PUT"), "/_matrix/client/r0/rooms/!room:s/send/m.room.message/t");
  EXPECT_EQ(expand(table, "/1/room:s/m.sticker/t", "PUT"),
            "/_matrix/client/r0/rooms/!room:s/send/m.sticker/t");
}

TEST(PathTable, a_numeric_event_type_outside_the_map_is_a_name) {
  EXPECT_EQ(expand(maps(), "/1/room:s/2/t", "PUT"), "/_matrix/client/r0/rooms/!room:s/send/2/t");
  EXPECT_EQ(expand(maps(), "/1/room:s/99999999999999999999/t", "PUT"),
            "/_matrix/client/r0/rooms/!room:s/send/99999999999999999999/t");
}

TEST(PathTable, a_route_of_another_method_or_number_is_a_path) {
  EXPECT_EQ(expand(maps(), "/0", "POST"), "as it is");
  EXPECT_EQ(expand(maps(), "/v1"), "as it is");
  EXPECT_EQ(expand(maps(), "/2"), "as it is");
}

TEST(PathTable, names_the_map_file_that_is_wrong) {
  MapFiles files;
  files.routes = R"([{"path":"x"}])";
  EXPECT_NE(PathTable::from_maps(files).error().message.find("routes.json"), std::string::npos);
  files.routes = "";
  files.event_types = "[1]";
  EXPECT_NE(PathTable::from_maps(files).error().message.find("event_types.json"), std::string::npos);
  files.event_types = "{";
  EXPECT_FALSE(PathTable::from_maps(files).ok());
}

}  // namespace
}  // namespace ravine::gateway::coap_proxy
