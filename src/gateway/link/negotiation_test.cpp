// Two links whose coders are not the same files.
#include <gtest/gtest.h>

#include "gateway/link/test_world.h"

namespace ravine::gateway::link {
namespace {

// A coder with tables of its own: what another coder made is garbage to it, without being malformed.
class TableCoder final : public coder::Coder {
 public:
  TableCoder(std::uint8_t table, std::string name) : table_(table), name_(std::move(name)) {}
  Bytes encode(ByteView text, const coder::MessageContext&) override { return mixed(text); }
  std::optional<Bytes> decode(ByteView coded, const coder::MessageContext&, std::size_t limit) override {
    if (coded.size() > limit) return std::nullopt;
    return mixed(coded);
  }
  void commit(ByteView text, const coder::MessageContext&) override {
    state_ = static_cast<std::uint8_t>(state_ + text.size());
  }
  void reset() override { state_ = 0; }
  std::unique_ptr<coder::Coder> clone() const override { return std::make_unique<TableCoder>(*this); }
  coder::CoderId id() const override { return {table_, 7, 7, 7}; }
  std::string_view name() const override { return name_; }

 private:
  Bytes mixed(ByteView text) const {
    Bytes out = to_bytes(text);
    for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(byte ^ table_ ^ state_);
    return out;
  }
  std::uint8_t table_;
  std::string name_;
  std::uint8_t state_ = 0;
};

Coders coders(std::string_view tables) {
  Coders made;
  for (const char table : tables)
    made.push_back(std::make_unique<TableCoder>(static_cast<std::uint8_t>(table), std::string(1, table)));
  return made;
}

struct Pair {
  Pair(std::string_view near_tables, std::string_view far_tables) { start(near_tables, far_tables); }
  void start(std::string_view near_tables, std::string_view far_tables) {
    near.emplace(make_link(near_durable, security::Role::near, random, {}, coders(near_tables)));
    start_far(far_tables);
  }
  void start_far(std::string_view far_tables) {
    far.emplace(make_link(far_durable, security::Role::far, random, {}, coders(far_tables), "192.0.2.1:1"));
  }
  // The response, or "" when there was none.
  std::string ask(std::string_view text) {
    const auto id = near->request(now, {to_bytes(as_bytes(text)), {}}, {});
    EXPECT_TRUE(id.ok());
    std::string response;
    for (int turn = 0; turn < 2000 && response.empty(); ++turn) {
      while (auto out = near->poll_transmit(now)) up.send(now, std::move(out->bytes));
      while (auto out = far->poll_transmit(now)) down.send(now, std::move(out->bytes));
      now = std::min({up.next(), down.next(), near->next_deadline().at, far->next_deadline().at});
      if (now.is_never()) break;
      while (auto bytes = up.receive(now)) far->handle_datagram(now, address, *bytes);
      while (auto bytes = down.receive(now)) near->handle_datagram(now, address, *bytes);
      near->handle_timeout(now);
      far->handle_timeout(now);
      while (auto event = far->poll_event())
        if (const auto* arrived = std::get_if<RequestArrived>(&*event)) {
          seen.emplace_back(as_text(arrived->request.text));
          far->respond(now, arrived->id, {to_bytes(as_bytes("re " + seen.back())), {}});
        }
      while (auto event = near->poll_event())
        if (const auto* ended = std::get_if<RequestEnded>(&*event)) response = as_text(ended->response.text);
    }
    return response;
  }
  Durable near_durable, far_durable;
  SeededRandom random{4};
  Wire up{{}, 1}, down{{}, 2};
  std::optional<ThinLink> near, far;
  Instant now{1'000'000'000};
  SocketAddress address = *SocketAddress::parse("192.0.2.1:1");
  std::vector<std::string> seen;
};

TEST(CoderChoice, takes_the_best_one_that_both_have) {
  Pair pair("abc", "cb");
  EXPECT_EQ(pair.ask("one"), "re one");
  EXPECT_EQ(pair.near->coder_name(), "b");
  EXPECT_EQ(pair.far->coder_name(), "b");
  EXPECT_EQ(pair.ask("two"), "re two");
  EXPECT_EQ(pair.seen, (std::vector<std::string>{"one", "two"}));  // never garbage
}

TEST(CoderChoice, costs_no_exchange_when_the_first_one_is_at_both_ends) {
  Pair pair("ab", "ba");
  EXPECT_EQ(pair.ask("one"), "re one");
  EXPECT_EQ(pair.near->coder_name(), "a");
  EXPECT_EQ(pair.up.datagrams, 1u);
  EXPECT_EQ(pair.down.datagrams, 1u);
}

TEST(CoderChoice, leaves_texts_as_they_are_when_the_ends_have_nothing_in_common) {
  Pair pair("ab", "cd");
  EXPECT_EQ(pair.ask("one"), "re one");
  EXPECT_EQ(pair.near->coder_name(), "none");
  EXPECT_EQ(pair.far->coder_name(), "none");
}

TEST(CoderChoice, tries_the_best_one_again_when_the_other_side_was_restarted) {
  Pair pair("ab", "b");
  EXPECT_EQ(pair.ask("one"), "re one");
  EXPECT_EQ(pair.near->coder_name(), "b");
  pair.start_far("ab");
  EXPECT_EQ(pair.ask("two"), "re two");
  EXPECT_EQ(pair.near->coder_name(), "a");
  pair.start_far("b");
  EXPECT_EQ(pair.ask("three"), "re three");
  EXPECT_EQ(pair.near->coder_name(), "b");
}

}  // namespace
}  // namespace ravine::gateway::link
