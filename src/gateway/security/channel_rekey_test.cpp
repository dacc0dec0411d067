#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>

#include "gateway/security/channel.h"
#include "gateway/security/test_store.h"

namespace ravine::gateway::security {
namespace {

Bytes text(std::string_view words) {
  return to_bytes(as_bytes(words));
}

struct Ends {
  explicit Ends(SecureChannel::Options chosen = {}, std::uint64_t seed = 3) : random(seed), options(chosen) {}

  SeededRandom random;
  TestStore near_store, far_store;
  SecureChannel::Options options;
  GatewaySecret secret = GatewaySecret::random(random);
  SecureChannel near = SecureChannel::make(secret, Role::near, near_store, random, options).value();
  SecureChannel far = SecureChannel::make(secret, Role::far, far_store, random, options).value();

  void restart(SecureChannel& side) {
    TestStore& store = &side == &near ? near_store : far_store;
    side = SecureChannel::restore(store.durable, store, random, options).value();
  }
  void exchange(SecureChannel& from, SecureChannel& to) {
    const auto message = from.seal_message(text("request"));
    ASSERT_TRUE(message.ok()) << message.error().message;
    const auto opened = to.open(message->bytes);
    ASSERT_TRUE(opened) << to_text(opened.error());
    ASSERT_EQ(opened->freshness, Freshness::fresh);
    EXPECT_EQ(opened->plaintext, text("request"));
    const auto answer = to.seal_answer(opened->number, text("answer"));
    ASSERT_TRUE(answer.ok()) << answer.error().message;
    const auto back = from.open(answer->bytes);
    ASSERT_TRUE(back) << to_text(back.error());
    EXPECT_EQ(back->number, message->number);
    EXPECT_EQ(back->plaintext, text("answer"));
  }
  void expect_generation(std::uint32_t wanted) const {
    EXPECT_EQ(near.generation(), wanted);
    EXPECT_EQ(far.generation(), wanted);
  }
};

TEST(Rekey, rides_on_one_exchange_for_nine_bytes_each_way) {
  Ends ends;
  ends.near.rekey();
  EXPECT_EQ(ends.near.message_overhead(), 9U + 9U);
  const SealedFrame message = ends.near.seal_message(text("request")).value();
  EXPECT_EQ(message.bytes.size(), 7U + 18U);
  const auto opened = ends.far.open(message.bytes);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->plaintext, text("request"));
  EXPECT_EQ(ends.far.answer_overhead(opened->number), 18U);
  const auto answer = ends.near.open(ends.far.seal_answer(opened->number, text("a")).value().bytes);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->plaintext, text("a"));
  EXPECT_EQ(ends.near.generation(), 1U);
  EXPECT_EQ(ends.far.generation(), 0U);  // until the near side has shown that it knows the new keys
  ends.exchange(ends.near, ends.far);
  ends.expect_generation(1);
  EXPECT_EQ(ends.near.message_overhead(), 9U);
  ends.exchange(ends.far, ends.near);
}

TEST(Rekey, oscore_between_the_two_follows_the_generation) {
  Ends ends;
  EXPECT_FALSE(ends.near.oscore_parameters().id_context.has_value());
  const Bytes first_secret = ends.near.oscore_parameters().master_secret;
  ends.near.rekey();
  ends.exchange(ends.near, ends.far);
  ends.exchange(ends.near, ends.far);
  const OscoreParameters near = ends.near.oscore_parameters(), far = ends.far.oscore_parameters();
  EXPECT_NE(near.master_secret, first_secret);
  EXPECT_EQ(near.master_secret, far.master_secret);
  EXPECT_EQ(near.id_context, Bytes{1});
  TestStore near_store, far_store;
  auto client = OscoreContext::make(near, near_store);
  auto server = OscoreContext::make(far, far_store);
  ASSERT_TRUE(client.ok() && server.ok());
  EXPECT_TRUE(server->unprotect_request(client->protect_request({1, {}, {}}).value().message));
}

TEST(Rekey, either_side_may_ask_many_times) {
  Ends ends;
  for (std::uint32_t i = 1; i <= 20; ++i) {
    (i % 2 == 0 ? ends.near : ends.far).rekey();
    for (int round = 0; round < 3; ++round) {
      ends.exchange(ends.near, ends.far);
      ends.exchange(ends.far, ends.near);
    }
    ends.expect_generation(i);
  }
}

TEST(Rekey, both_asking_at_once_end_in_one_generation) {
  Ends ends;
  ends.near.rekey();
  ends.far.rekey();
  const SealedFrame from_near = ends.near.seal_message(text("n")).value();
  const SealedFrame from_far = ends.far.seal_message(text("f")).value();
  const auto at_near = ends.near.open(from_far.bytes);
  const auto at_far = ends.far.open(from_near.bytes);
  ASSERT_TRUE(at_near && at_far);
  const Bytes near_answer = ends.near.seal_answer(at_near->number, {}).value().bytes;
  const Bytes far_answer = ends.far.seal_answer(at_far->number, {}).value().bytes;
  ASSERT_TRUE(ends.far.open(near_answer));
  ASSERT_TRUE(ends.near.open(far_answer));
  ends.exchange(ends.near, ends.far);
  ends.expect_generation(1);
  for (int i = 0; i < 200; ++i) ends.exchange(ends.far, ends.near);
  ends.expect_generation(1);
}

TEST(Rekey, asked_by_a_side_that_only_answers_afterwards_is_still_confirmed) {
  Ends ends;
  ends.far.rekey();
  ends.exchange(ends.far, ends.near);
  EXPECT_EQ(ends.far.generation(), 1U);
  EXPECT_EQ(ends.near.generation(), 0U);
  ends.exchange(ends.near, ends.far);  // sealed under the old keys; its answer tells that the new are known
  EXPECT_EQ(ends.near.generation(), 1U);
  ends.exchange(ends.near, ends.far);
}

TEST(Rekey, is_confirmed_even_when_the_side_that_asked_and_only_answers_restarts) {
  Ends ends;
  ends.far.rekey();
  ends.exchange(ends.far, ends.near);
  ends.exchange(ends.far, ends.near);
  ends.expect_generation(1);
  ends.far.rekey();
  ends.exchange(ends.far, ends.near);
  EXPECT_EQ(ends.far.generation(), 2U);
  ends.restart(ends.far);
  for (int i = 0; i < 3; ++i) ends.exchange(ends.near, ends.far);
  ends.expect_generation(2);
}

TEST(Rekey, a_lost_answer_leaves_the_old_keys_and_it_is_tried_again) {
  Ends ends;
  ends.near.rekey();
  const auto opened = ends.far.open(ends.near.seal_message(text("lost answer")).value().bytes);
  ASSERT_TRUE(opened);
  const SealedFrame lost = ends.far.seal_answer(opened->number, text("a")).value();
  for (int i = 0; i < 20; ++i) ends.exchange(ends.near, ends.far);
  ends.expect_generation(0);
  for (int i = 0; i < 20; ++i) ends.exchange(ends.near, ends.far);
  ends.expect_generation(1);
  // The first attempt's answer comes after all: nothing changes.
  EXPECT_EQ(ends.near.open(lost.bytes)->plaintext, text("a"));
  ends.exchange(ends.near, ends.far);
  ends.expect_generation(1);
}

TEST(Rekey, frames_under_way_from_the_old_keys_are_opened_and_answered) {
  Ends ends;
  std::vector<SealedFrame> late;
  for (int i = 0; i < 10; ++i) late.push_back(ends.near.seal_message(text("late")).value());
  ends.near.rekey();
  ends.exchange(ends.near, ends.far);
  ends.exchange(ends.near, ends.far);
  ends.expect_generation(1);
  for (const SealedFrame& frame : late) {
    const auto opened = ends.far.open(frame.bytes);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->number, frame.number);
    EXPECT_EQ(opened->freshness, Freshness::fresh);
    const auto answer = ends.near.open(ends.far.seal_answer(opened->number, text("a")).value().bytes);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->number, frame.number);
  }
}

TEST(Rekey, restarts_at_every_step_lose_nothing) {
  for (int step = 0; step < 5; ++step)
    for (int who = 1; who <= 3; ++who) {
      SCOPED_TRACE(testing::Message() << "restart of " << who << " after step " << step);
      Ends ends;
      const auto crash = [&](int at) {
        if (at != step) return;
        if ((who & 1) != 0) ends.restart(ends.near);
        if ((who & 2) != 0) ends.restart(ends.far);
        ends.near.skip_to(ends.far.first_fresh_number());
        ends.far.skip_to(ends.near.first_fresh_number());
      };
      crash(0);
      ends.near.rekey();
      const SealedFrame message = ends.near.seal_message(text("request")).value();
      crash(1);
      const auto opened = ends.far.open(message.bytes);
      ASSERT_TRUE(opened);
      crash(2);
      if (ends.far.can_answer(opened->number)) {
        const SealedFrame answer = ends.far.seal_answer(opened->number, text("answer")).value();
        crash(3);
        EXPECT_TRUE(ends.near.open(answer.bytes));
      }
      crash(4);
      for (int i = 0; i < 150; ++i) {
        const auto sure = ends.far.open(ends.near.seal_message(text("probe")).value().bytes);
        ASSERT_TRUE(sure);
        if (sure->freshness != Freshness::fresh) ends.near.skip_to(ends.far.first_fresh_number());
      }
      ends.exchange(ends.near, ends.far);
      ends.exchange(ends.far, ends.near);
      EXPECT_EQ(ends.near.generation(), ends.far.generation());
    }
}

TEST(Rekey, starts_by_itself_at_half_of_either_limit) {
  Ends sends({.max_sends = 256, .max_failed_opens = 1000});
  for (int i = 0; i < 2000; ++i) sends.exchange(sends.near, sends.far);
  EXPECT_GE(sends.near.generation(), 2000U / 256U);

  Ends failures({.max_sends = 10000, .max_failed_opens = 64});
  const std::uint32_t before = failures.far.generation();
  for (int i = 0; i < 11; ++i) EXPECT_FALSE(failures.far.open(Bytes{0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_LT(failures.far.failed_opens(), 64U);
  for (int i = 0; i < 11; ++i) EXPECT_FALSE(failures.far.open(Bytes{0x81, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  failures.exchange(failures.far, failures.near);
  failures.exchange(failures.far, failures.near);
  EXPECT_GT(failures.far.generation(), before);
}

TEST(Rekey, at_the_limit_nothing_is_sealed_or_opened_any_more) {
  Ends ends({.max_sends = 128, .max_failed_opens = 8});
  int sealed = 0;
  while (ends.near.seal_message(text("unanswered")).ok()) ++sealed;
  EXPECT_EQ(sealed, 128);
  EXPECT_EQ(ends.near.seal_message({}).error().kind, ErrorKind::limit_reached);
  ends.restart(ends.near);
  EXPECT_EQ(ends.near.seal_message({}).error().kind, ErrorKind::limit_reached);

  const SealedFrame good = ends.far.seal_message(text("m")).value();
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(ends.near.open(Bytes(12, 0x80)));
  EXPECT_EQ(ends.near.open(good.bytes).error(), FrameDrop::limit_reached);
}

TEST(Rekey, the_old_secret_is_not_in_the_state_once_it_is_out_of_use) {
  Ends ends;
  for (int generation = 0; generation < 2; ++generation) {
    ends.near.rekey();
    for (int i = 0; i < 200; ++i) {
      ends.exchange(ends.near, ends.far);
      ends.exchange(ends.far, ends.near);
    }
  }
  for (const SecureChannel* side : {&ends.near, &ends.far})
    EXPECT_EQ(as_text(side->encode()).find(as_text(ends.secret.view())), std::string_view::npos);
}

// Every frame ever sealed, by what makes its nonce: direction, generation, kind, number. Two different frames
// under one such name would be a nonce used twice.
class NonceLedger {
 public:
  void note(Role sender, FrameKind kind, const SealedFrame& frame) {
    const auto [at, added] = frames_.try_emplace({sender, kind, frame.number}, frame.bytes);
    ASSERT_TRUE(added) << "nonce used twice: generation " << frame.number.generation << ", number "
                       << frame.number.number;
  }
  std::size_t size() const { return frames_.size(); }

 private:
  std::map<std::tuple<Role, FrameKind, FrameNumber>, Bytes> frames_;
};

// Random operations with losses, duplicates, reordering, crashes and failing disks.
void run_random_operations(std::uint64_t seed) {
  SCOPED_TRACE(seed);
  Ends ends({.max_sends = 4096, .max_failed_opens = kMaxFailedOpens}, seed);
  SeededRandom dice(seed + 1000);
  NonceLedger ledger;
  std::deque<Bytes> to_near, to_far;
  std::set<std::pair<Role, FrameNumber>> delivered;
  for (int step = 0; step < 3000; ++step) {
    const bool near = dice.below(2) == 0;
    SecureChannel& self = near ? ends.near : ends.far;
    TestStore& store = near ? ends.near_store : ends.far_store;
    std::deque<Bytes>& inbox = near ? to_near : to_far;
    std::deque<Bytes>& outbox = near ? to_far : to_near;
    switch (dice.below(20)) {
      case 0:
        ends.restart(self);
        break;
      case 1:
        self.rekey();
        break;
      case 2:
        store.failing = !store.failing && dice.below(4) == 0;
        break;
      case 3:
        self.skip_to((near ? ends.far : ends.near).first_fresh_number());
        break;
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
      case 9: {
        const auto sealed = self.seal_message(text("m"));
        if (!sealed.ok()) break;
        ledger.note(self.role(), FrameKind::message, *sealed);
        if (dice.below(4) != 0) outbox.push_back(sealed->bytes);
        if (dice.below(8) == 0) outbox.push_front(sealed->bytes);
        break;
      }
      default: {
        if (inbox.empty()) break;
        const Bytes frame = inbox.front();
        inbox.pop_front();
        if (dice.below(10) == 0) inbox.push_back(frame);
        const auto opened = self.open(frame);
        if (!opened || opened->kind != FrameKind::message) break;
        if (opened->freshness == Freshness::fresh) {
          ASSERT_TRUE(delivered.emplace(self.role(), opened->number).second) << "accepted twice as fresh";
        }
        if (!self.can_answer(opened->number) || dice.below(5) == 0) break;
        const SealedFrame answer = self.seal_answer(opened->number, text("a")).value();
        ledger.note(self.role(), FrameKind::answer, answer);
        if (dice.below(4) != 0) outbox.push_back(answer.bytes);
      }
    }
    if (testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(ledger.size(), 500U);
  ends.near_store.failing = ends.far_store.failing = false;
  // Whatever happened, the two still understand each other.
  for (int i = 0; i < 3; ++i) {
    const auto opened = ends.far.open(ends.near.seal_message(text("m")).value().bytes);
    ASSERT_TRUE(opened) << to_text(opened.error());
    const auto back = ends.near.open(ends.far.seal_message(text("m")).value().bytes);
    ASSERT_TRUE(back) << to_text(back.error());
  }
}

TEST(Rekey, no_nonce_is_used_twice_through_crashes_losses_and_key_changes) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    run_random_operations(seed);
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace ravine::gateway::security
