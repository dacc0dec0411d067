#include "gateway/security/channel.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "gateway/security/test_store.h"

namespace ravine::gateway::security {
namespace {

Bytes text(std::string_view words) {
  return to_bytes(as_bytes(words));
}

// Two ends with their stores. restart() forgets everything but what is durable.
struct Ends {
  explicit Ends(SecureChannel::Options chosen = {}) : options(chosen) {}

  SeededRandom random{3};
  TestStore near_store, far_store;
  SecureChannel::Options options;
  GatewaySecret secret = GatewaySecret::random(random);
  SecureChannel near = SecureChannel::make(secret, Role::near, near_store, random, options).value();
  SecureChannel far = SecureChannel::make(secret, Role::far, far_store, random, options).value();

  void restart(SecureChannel& side) {
    TestStore& store = &side == &near ? near_store : far_store;
    side = SecureChannel::restore(store.durable, store, random, options).value();
  }
  // A message from one side, opened at the other.
  OpenedFrame send(SecureChannel& from, SecureChannel& to, std::string_view words = "m") {
    auto opened = to.open(from.seal_message(text(words)).value().bytes);
    EXPECT_TRUE(opened.has_value());
    return opened.value_or(OpenedFrame{});
  }
  // A message and its answer.
  void exchange(SecureChannel& from, SecureChannel& to) {
    const SealedFrame message = from.seal_message(text("request")).value();
    const auto opened = to.open(message.bytes);
    ASSERT_TRUE(opened) << to_text(opened.error());
    ASSERT_EQ(opened->freshness, Freshness::fresh);
    EXPECT_EQ(opened->plaintext, text("request"));
    EXPECT_EQ(opened->number, message.number);
    const SealedFrame answer = to.seal_answer(opened->number, text("answer")).value();
    const auto back = from.open(answer.bytes);
    ASSERT_TRUE(back) << to_text(back.error());
    EXPECT_EQ(back->kind, FrameKind::answer);
    EXPECT_EQ(back->number, message.number);
    EXPECT_EQ(back->plaintext, text("answer"));
  }
};

TEST(Channel, hello_costs_nine_bytes_more_than_its_text_and_an_empty_answer_nine) {
  Ends ends;
  const SealedFrame message = ends.near.seal_message(text("hello")).value();
  EXPECT_EQ(message.bytes.size(), 5U + 9U);
  EXPECT_EQ(message.bytes.size() - 5, 9U);
  const auto opened = ends.far.open(message.bytes);
  ASSERT_TRUE(opened);
  EXPECT_EQ(ends.far.answer_overhead(opened->number), 9U);
  EXPECT_EQ(ends.far.seal_answer(opened->number, {}).value().bytes.size(), 9U);
}

TEST(Channel, never_looks_like_coap) {
  Ends ends;
  for (int i = 0; i < 200; ++i) {
    const SealedFrame message = ends.near.seal_message(text("m")).value();
    EXPECT_NE(frame_kind(message.bytes[0]), FrameKind::coap);
    const auto opened = ends.far.open(message.bytes);
    ASSERT_TRUE(opened);
    EXPECT_NE(frame_kind(ends.far.seal_answer(opened->number, {}).value().bytes[0]), FrameKind::coap);
    const Bytes named = with_connection_id(ends.near.connection_id(), message.bytes);
    EXPECT_NE(frame_kind(named[0]), FrameKind::coap);
  }
  EXPECT_EQ(ends.far.open(Bytes{0x44, 0x01, 0x5d, 0x1f, 0, 0, 0x39, 0x74}).error(), FrameDrop::malformed);
}

TEST(Channel, six_bits_name_every_number_while_answers_come) {
  Ends ends;
  for (int i = 0; i < 300; ++i) {
    ends.exchange(ends.near, ends.far);
    ends.exchange(ends.far, ends.near);
    EXPECT_EQ(ends.near.message_overhead(), 9U);
  }
}

TEST(Channel, writes_the_whole_number_once_the_other_side_is_silent_and_is_understood_after_an_outage) {
  Ends ends;
  ends.exchange(ends.near, ends.far);
  SealedFrame last;
  for (int i = 0; i < 5000; ++i) last = ends.near.seal_message(text("lost")).value();
  EXPECT_GT(last.bytes.size(), 4U + 9U);
  EXPECT_EQ(ends.far.open(last.bytes)->number, last.number);
  ends.near.note_received(last.number);
  EXPECT_EQ(ends.near.message_overhead(), 9U);
  ends.exchange(ends.near, ends.far);
}

TEST(Channel, takes_64_frames_in_any_order_and_each_once) {
  Ends ends;
  std::vector<SealedFrame> sent;
  for (int i = 0; i < 64; ++i) sent.push_back(ends.near.seal_message(text("m")).value());
  for (std::size_t i = sent.size(); i-- > 0;) {
    const auto opened = ends.far.open(sent[i].bytes);
    ASSERT_TRUE(opened) << i;
    EXPECT_EQ(opened->number, sent[i].number);
    EXPECT_EQ(opened->freshness, Freshness::fresh);
    EXPECT_EQ(opened->newest, i == 63);
  }
  for (const SealedFrame& frame : sent) {
    const auto again = ends.far.open(frame.bytes);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->freshness, Freshness::duplicate);
    EXPECT_EQ(again->number, frame.number);
    EXPECT_FALSE(again->newest);
  }
}

TEST(Channel, truncated_and_changed_frames_open_nothing_and_move_nothing) {
  Ends ends;
  ends.exchange(ends.near, ends.far);
  const SealedFrame good = ends.near.seal_message(text("payload")).value();
  for (std::size_t cut = 0; cut < good.bytes.size(); ++cut)
    EXPECT_FALSE(ends.far.open(ByteView(good.bytes).first(cut)));
  for (std::size_t bit = 0; bit < good.bytes.size() * 8; ++bit) {
    Bytes forged = good.bytes;
    forged[bit / 8] = static_cast<std::uint8_t>(forged[bit / 8] ^ (1U << (bit % 8)));
    EXPECT_FALSE(ends.far.open(forged)) << bit;
  }
  const auto opened = ends.far.open(good.bytes);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->freshness, Freshness::fresh);
  EXPECT_TRUE(opened->newest);
  EXPECT_EQ(opened->plaintext, text("payload"));
}

TEST(Channel, random_bytes_crash_nothing) {
  Ends ends;
  ends.exchange(ends.near, ends.far);
  ends.near.rekey();
  ends.exchange(ends.near, ends.far);
  SeededRandom noise(99);
  for (int i = 0; i < 3000; ++i) {
    Bytes junk(noise.below(40));
    noise.fill(junk);
    if (i % 2 == 0 && !junk.empty()) junk[0] = static_cast<std::uint8_t>(noise.below(8));
    EXPECT_FALSE(ends.far.open(junk));
  }
  ends.exchange(ends.near, ends.far);
}

TEST(Channel, a_frame_of_ones_own_or_of_another_pair_is_refused) {
  Ends ends, others;
  others.secret = GatewaySecret::random(others.random);
  const SealedFrame mine = ends.near.seal_message(text("m")).value();
  EXPECT_FALSE(ends.near.open(mine.bytes));
  SecureChannel stranger =
      SecureChannel::make(others.secret, Role::far, others.far_store, others.random, {}).value();
  EXPECT_EQ(stranger.open(mine.bytes).error(), FrameDrop::forged);
  EXPECT_EQ(stranger.open(with_connection_id(ends.near.connection_id(), mine.bytes)).error(),
            FrameDrop::other_context);
  EXPECT_TRUE(ends.far.open(with_connection_id(ends.near.connection_id(), mine.bytes)));
}

TEST(Channel, an_answer_opens_as_the_answer_to_its_message_alone) {
  Ends ends;
  const SealedFrame first = ends.near.seal_message(text("1")).value();
  const SealedFrame second = ends.near.seal_message(text("2")).value();
  ASSERT_TRUE(ends.far.open(first.bytes));
  ASSERT_TRUE(ends.far.open(second.bytes));
  SealedFrame answer = ends.far.seal_answer(first.number, text("a")).value();
  Bytes moved = answer.bytes;
  moved[0] = static_cast<std::uint8_t>(moved[0] ^ 1);  // claims to answer the second
  EXPECT_FALSE(ends.near.open(moved));
  EXPECT_EQ(ends.near.open(answer.bytes)->number, first.number);
  EXPECT_EQ(ends.near.open(answer.bytes)->freshness, Freshness::duplicate);
  // Nobody asked the far side anything: what claims to answer it is nothing.
  EXPECT_EQ(ends.far.open(answer.bytes).error(), FrameDrop::unknown_answer);
}

TEST(Channel, a_late_answer_still_finds_its_message) {
  Ends ends;
  const SealedFrame first = ends.near.seal_message(text("slow")).value();
  ASSERT_TRUE(ends.far.open(first.bytes));
  for (int i = 0; i < 100; ++i) ends.exchange(ends.near, ends.far);
  const SealedFrame answer = ends.far.seal_answer(first.number, text("a")).value();
  EXPECT_EQ(answer.bytes.size(), 1 + ends.far.answer_overhead(first.number));
  EXPECT_EQ(ends.near.open(answer.bytes)->number, first.number);
}

TEST(Channel, seals_one_answer_per_message) {
  Ends ends;
  const OpenedFrame opened = ends.send(ends.near, ends.far);
  EXPECT_TRUE(ends.far.can_answer(opened.number));
  EXPECT_TRUE(ends.far.seal_answer(opened.number, text("a")).ok());
  EXPECT_FALSE(ends.far.can_answer(opened.number));
  EXPECT_EQ(ends.far.seal_answer(opened.number, text("b")).error().kind, ErrorKind::already_exists);
  EXPECT_FALSE(ends.far.seal_answer({0, 77}, text("never asked")).ok());
  EXPECT_FALSE(ends.far.seal_answer({9, 0}, text("no such keys")).ok());
}

TEST(Channel, answers_nothing_from_before_a_restart_by_number) {
  Ends ends;
  const SealedFrame message = ends.near.seal_message(text("m")).value();
  ASSERT_TRUE(ends.far.open(message.bytes));
  ends.restart(ends.far);
  const auto again = ends.far.open(message.bytes);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->freshness, Freshness::unknown);
  EXPECT_FALSE(again->newest);
  EXPECT_FALSE(ends.far.can_answer(again->number));
}

TEST(Channel, goes_on_after_restarts_of_either_side_without_a_handshake) {
  Ends ends;
  for (int round = 0; round < 5; ++round) {
    ends.exchange(ends.near, ends.far);
    ends.restart(ends.near);
    ends.exchange(ends.near, ends.far);
    ends.exchange(ends.far, ends.near);
    ends.restart(ends.far);
    // The first frame may lie in the far side's unsure range; it says where it is sure again.
    const OpenedFrame first = ends.send(ends.near, ends.far);
    if (first.freshness == Freshness::unknown) ends.near.skip_to(ends.far.first_fresh_number());
    ends.exchange(ends.near, ends.far);
  }
}

TEST(Channel, two_restarts_in_a_row_skip_two_blocks_at_most) {
  Ends ends;
  for (int i = 0; i < 10; ++i) ends.exchange(ends.near, ends.far);
  ends.restart(ends.near);
  ends.restart(ends.near);
  EXPECT_GE(ends.near.next_number().number, 10U);
  EXPECT_LE(ends.near.next_number().number, 2 * kSequenceBlock);
  ends.exchange(ends.near, ends.far);
  ends.restart(ends.near);
  ends.exchange(ends.near, ends.far);
}

TEST(Channel, a_store_that_fails_stops_sending_and_distrusts_what_it_cannot_remember) {
  Ends ends;
  ends.near_store.failing = true;
  EXPECT_EQ(ends.near.seal_message(text("m")).error().kind, ErrorKind::io);
  ends.near_store.failing = false;
  const SealedFrame message = ends.near.seal_message(text("m")).value();
  ends.far_store.failing = true;
  EXPECT_EQ(ends.far.open(message.bytes)->freshness, Freshness::unknown);
  ends.far_store.failing = false;
  EXPECT_EQ(ends.far.open(message.bytes)->freshness, Freshness::fresh);
}

TEST(Channel, fragments_share_consecutive_numbers_and_fit_the_frame) {
  Ends ends;
  Bytes body(1000);
  ends.random.fill(body);
  const auto frames = ends.near.seal_fragments(body, 64).value();
  Bytes whole;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    EXPECT_LE(frames[i].bytes.size(), 64U);
    EXPECT_EQ(frames[i].number.number, frames[0].number.number + i);
    const auto opened = ends.far.open(frames[i].bytes);
    ASSERT_TRUE(opened);
    EXPECT_TRUE(opened->fragment);
    ByteView part;
    const auto header = decode_fragment(opened->plaintext, part);
    ASSERT_TRUE(header);
    EXPECT_EQ(header->index, i);
    EXPECT_EQ(header->last, i + 1 == frames.size());
    whole.insert(whole.end(), part.begin(), part.end());
    // A fragment without its mark is no message.
    Bytes unmarked(frames[i].bytes.begin() + 1, frames[i].bytes.end());
    EXPECT_FALSE(ends.far.open(unmarked));
  }
  EXPECT_EQ(whole, body);
  EXPECT_LE(frames.size(), 20U);
  EXPECT_FALSE(ends.near.seal_fragments(body, 31).ok());
  EXPECT_EQ(ends.near.seal_fragments({}, 64).value().size(), 1U);
}

TEST(Channel, weak_protection_needs_the_option_and_says_so) {
  const UframeProtection::PointToPoint wire("serial line");
  EXPECT_EQ(SecureChannel::Options{}.protection, UframeProtection::full());
  for (const UframeProtection& protection :
       {UframeProtection::short_tag(wire), UframeProtection::none(wire)}) {
    EXPECT_NE(protection.to_text(), UframeProtection::full().to_text());
    Ends ends({.protection = protection});
    for (int i = 0; i < 200; ++i) ends.exchange(ends.near, ends.far);
    EXPECT_EQ(ends.near.message_overhead(), 1 + protection.tag_size());
    const SealedFrame frame = ends.near.seal_message(text("visible")).value();
    EXPECT_EQ(as_text(frame.bytes).find("visible") != std::string_view::npos, !protection.encrypted());
  }
}

TEST(Channel, state_survives_and_damage_to_it_is_found) {
  Ends ends;
  ends.exchange(ends.near, ends.far);
  ends.near.rekey();
  ends.exchange(ends.near, ends.far);
  const Bytes state = ends.far.encode();
  for (std::size_t cut = 0; cut < state.size(); ++cut)
    EXPECT_FALSE(SecureChannel::restore(ByteView(state).first(cut), ends.far_store, ends.random, {}).ok());
  for (std::size_t i = 0; i < state.size(); ++i) {
    Bytes damaged = state;
    damaged[i] ^= 0x10;
    EXPECT_FALSE(SecureChannel::restore(damaged, ends.far_store, ends.random, {}).ok()) << i;
  }
  const auto again = SecureChannel::restore(state, ends.far_store, ends.random, {});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->encode(), state);
}

}  // namespace
}  // namespace ravine::gateway::security
