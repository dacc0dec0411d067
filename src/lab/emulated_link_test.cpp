#include "lab/emulated_link.h"

#include <gtest/gtest.h>

#include <vector>

#include "lab/link_words.h"

namespace ravine::lab {
namespace {

constexpr Instant kStart{1'000'000'000};

struct Arrival {
  Duration after;  // the start
  std::uint64_t tag;
  Bytes bytes;
};

// Everything that comes out, in its order.
std::vector<Arrival> drain(EmulatedLink& link) {
  std::vector<Arrival> arrivals;
  for (Instant at; !(at = link.next_deadline().at).is_never();) {
    while (auto parcel = link.receive(at)) arrivals.push_back({at - kStart, parcel->tag, parcel->bytes});
  }
  return arrivals;
}

TEST(EmulatedLink, takes_the_time_that_the_rate_gives_and_then_the_delay) {
  EmulatedLink link({.rate_bps = 100, .delay = 2s}, 1, kStart);
  link.send(kStart, {1, Bytes(22)});  // 50 bytes with UDP and IPv4: 4 s
  link.send(kStart, {2, Bytes(22)});
  const auto arrivals = drain(link);
  ASSERT_EQ(arrivals.size(), 2u);
  EXPECT_EQ(arrivals[0].after, 6s);
  EXPECT_EQ(arrivals[1].after, 10s);
  EXPECT_EQ(link.tally().busy, 8s);
  EXPECT_EQ(link.tally().bytes, 100u);
}

TEST(EmulatedLink, drops_what_the_queue_cannot_hold_but_always_takes_one) {
  EmulatedLink link({.rate_bps = 100, .queue_bytes = 100}, 1, kStart);
  for (int i = 0; i < 5; ++i) link.send(kStart, {0, Bytes(172)});
  EXPECT_EQ(drain(link).size(), 1u);
  EXPECT_EQ(link.tally().queue_full, 4u);
  link.send(kStart + 16s, {0, Bytes(172)});
  EXPECT_EQ(drain(link).size(), 1u);
}

TEST(EmulatedLink, loses_the_share_that_it_is_told_in_runs_of_the_length_that_it_is_told) {
  for (const double burst : {1.0, 4.0}) {
    EmulatedLink link({.loss = 0.2, .burst = burst, .overhead_bytes = 0}, 7, kStart);
    constexpr std::uint64_t kAll = 40000;
    for (std::uint64_t i = 0; i < kAll; ++i) {
      link.send(kStart + Duration{static_cast<std::int64_t>(i)}, {i, Bytes(1)});
    }
    std::vector<bool> arrived(kAll);
    for (const auto& arrival : drain(link)) arrived[arrival.tag] = true;
    std::uint64_t lost = 0, runs = 0;
    for (std::uint64_t i = 0; i < kAll; ++i) {
      lost += !arrived[i];
      runs += !arrived[i] && (i == 0 || arrived[i - 1]);
    }
    EXPECT_NEAR(static_cast<double>(lost) / kAll, 0.2, 0.02);
    const double mean = static_cast<double>(lost) / static_cast<double>(runs);
    EXPECT_NEAR(mean, burst > 1 ? burst : 1.25, 0.3);
    EXPECT_EQ(link.tally().lost, lost);
  }
}

TEST(EmulatedLink, a_lost_datagram_has_cost_its_time_on_the_air) {
  EmulatedLink link({.rate_bps = 8, .loss = 1, .overhead_bytes = 0}, 1, kStart);
  link.send(kStart, {0, Bytes(10)});
  EXPECT_EQ(link.tally().busy, 10s);
  EXPECT_TRUE(drain(link).empty());
}

TEST(EmulatedLink, corrupts_one_bit_and_duplicates_the_same_bytes) {
  EmulatedLink link({.duplicate = 1, .corrupt = 1}, 3, kStart);
  link.send(kStart, {0, Bytes(40)});
  const auto arrivals = drain(link);
  ASSERT_EQ(arrivals.size(), 2u);
  EXPECT_EQ(arrivals[0].bytes, arrivals[1].bytes);
  int bits = 0;
  for (const std::uint8_t byte : arrivals[0].bytes) bits += __builtin_popcount(byte);
  EXPECT_EQ(bits, 1);
}

TEST(EmulatedLink, keeps_the_order_under_jitter_and_breaks_it_when_told) {
  for (const double reorder : {0.0, 0.3}) {
    EmulatedLink link({.delay = 10ms, .jitter = 50ms, .reorder = reorder}, 5, kStart);
    for (std::uint64_t i = 0; i < 200; ++i) {
      link.send(kStart + i * 1ms, {i, Bytes(1)});
    }
    const auto arrivals = drain(link);
    ASSERT_EQ(arrivals.size(), 200u);
    unsigned overtaken = 0;
    for (std::size_t i = 1; i < arrivals.size(); ++i) overtaken += arrivals[i].tag < arrivals[i - 1].tag;
    EXPECT_EQ(overtaken > 10, reorder > 0) << overtaken;
    EXPECT_EQ(overtaken == 0, reorder == 0) << overtaken;
  }
}

TEST(EmulatedLink, is_dead_during_outages_alone) {
  EmulatedLink link({.outage = 30s, .outage_period = 600s}, 1, kStart);
  for (const auto at : {0s, 569s, 571s, 599s, 601s, 1175s, 1201s}) link.send(kStart + at, {0, Bytes(1)});
  EXPECT_EQ(drain(link).size(), 4u);
  EXPECT_EQ(link.tally().outage, 3u);
}

TEST(EmulatedLink, does_the_same_again_from_the_same_seed) {
  const auto run = [](std::uint64_t seed) {
    EmulatedLink link({.rate_bps = 1000, .jitter = 1s, .loss = 0.3, .duplicate = 0.1, .reorder = 0.1}, seed,
                      kStart);
    for (std::uint64_t i = 0; i < 100; ++i) link.send(kStart + i * 10ms, {i, Bytes(i)});
    std::vector<std::uint64_t> tags;
    for (const auto& arrival : drain(link)) tags.push_back(arrival.tag);
    return tags;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

TEST(LinkWords, reads_rates_shares_and_spans) {
  EXPECT_EQ(parse_rate("100bps"), 100);
  EXPECT_EQ(parse_rate("9.6kbps"), 9600);
  EXPECT_EQ(parse_rate("1Mbps"), 1e6);
  EXPECT_EQ(parse_rate("64000"), 64000);
  for (const char* bad : {"", "bps", "-1bps", "100 bps", "nan", "inf", "1e30", "0.0001bps", "5parsec"})
    EXPECT_FALSE(parse_rate(bad)) << bad;
  EXPECT_EQ(parse_share("10%"), 0.1);
  EXPECT_EQ(parse_share("0.25"), 0.25);
  for (const char* bad : {"", "%", "101%", "2", "-1%"}) EXPECT_FALSE(parse_share(bad)) << bad;
  EXPECT_EQ(parse_span("1.5s"), 1500ms);
  EXPECT_EQ(parse_span("10m"), 600s);
  for (const char* bad : {"", "2", "s", "-2s", "1e9h"}) EXPECT_FALSE(parse_span(bad)) << bad;
}

TEST(LinkWords, reads_a_whole_link_and_writes_it_back) {
  const std::string text = "rate=100bps,loss=10%,burst=3,delay=2s,jitter=250ms,outage=30s/600s,queue=4096";
  const auto profile = parse_profile(text);
  ASSERT_TRUE(profile.ok()) << profile.error().message;
  EXPECT_EQ(profile->rate_bps, 100);
  EXPECT_EQ(profile->outage_period, 600s);
  EXPECT_EQ(to_text(*profile), text);
}

TEST(LinkWords, says_which_word_is_wrong) {
  for (const auto& [text, word] : {std::pair{"rate=fast", "fast"},
                                   {"speed=1", "speed"},
                                   {"loss", "loss"},
                                   {"outage=10m/30s", "10m/30s"},
                                   {"burst=0", "burst"},
                                   {"queue=-1", "queue"},
                                   {"overhead=x", "overhead"}}) {
    const auto profile = parse_profile(text);
    ASSERT_FALSE(profile.ok()) << text;
    EXPECT_NE(profile.error().message.find(word), std::string::npos) << profile.error().message;
  }
}

}  // namespace
}  // namespace ravine::lab
