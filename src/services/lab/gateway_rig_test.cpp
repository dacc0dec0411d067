#include "services/lab/gateway_rig.h"

#include <gtest/gtest.h>

#include "lab/test_session.h"
#include "services/lab/gateway_load.h"

namespace ravine::services {
namespace {

TEST(GatewayRig, replays_a_session_over_sockets_as_the_machines_do_in_virtual_time) {
  const lab::Trace trace = lab::session_of(3);
  auto figures = replay_in_real_time(trace, {.link = {.rate_bps = 1e6, .delay = 5ms}});
  ASSERT_TRUE(figures.ok()) << figures.error().message;
  EXPECT_EQ(figures->replay.faults, std::vector<std::string>{});
  EXPECT_EQ(figures->replay.total().made_once, trace.size());
  EXPECT_EQ(figures->replay.coder, "none");
  const auto total = figures->replay.total();
  const auto& near = figures->replay.near;
  EXPECT_EQ(total.up_bytes, near.bytes_out + 28 * figures->replay.up_datagrams);
}

TEST(GatewayLoad, counts_exchanges_that_pass_both_gateways) {
  const auto figures =
      measure_load({.span = 300ms, .clients = 4, .make_coders = [] { return gateway::link::Coders(); }});
  ASSERT_TRUE(figures.ok()) << figures.error().message;
  EXPECT_GT(figures->exchanges, 10u);
  EXPECT_EQ(figures->failed, 0u);
  EXPECT_EQ(figures->coder, "none");
}

TEST(GatewayRig, replays_over_a_serial_line) {
  const lab::Trace trace = lab::session_of(2);
  auto figures = replay_in_real_time(
      trace, {.link = {.rate_bps = 1e6, .delay = 5ms, .overhead_bytes = 0}, .serial = true});
  ASSERT_TRUE(figures.ok()) << figures.error().message;
  EXPECT_EQ(figures->replay.total().made_once, trace.size());
  EXPECT_GT(figures->replay.total().up_bytes, 100u);
}

TEST(GatewayRig, ends_when_quiet_requests_travelled_with_others) {
  lab::Trace trace = lab::session_of(1);
  const lab::Exchange receipt{"receipt",
                              "POST",
                              "/_matrix/client/v3/rooms/%21r%3Ab.example/receipt/m.read/%24e",
                              "Bearer syt_a_token",
                              "{}",
                              200,
                              "{}"};
  trace.insert(trace.begin() + 2, receipt);
  auto figures = replay_in_real_time(trace, {.link = {.rate_bps = 20000, .delay = 5ms}});
  ASSERT_TRUE(figures.ok()) << figures.error().message;
  EXPECT_EQ(figures->replay.total().made_once, trace.size());
}

}  // namespace
}  // namespace ravine::services
