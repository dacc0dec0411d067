#include "gateway/security/noise.h"

#include <gtest/gtest.h>

#include "gateway/security/noise_vectors.h"

namespace ravine::gateway::security {
namespace {

Bytes hex(std::string_view text) {
  return decode_hex(text).value();
}

// Gives out the bytes that it was made with, once.
class FixedBytes final : public RandomSource {
 public:
  explicit FixedBytes(Bytes bytes) : bytes_(std::move(bytes)) {}
  void fill(MutableBytes out) override {
    ASSERT_LE(out.size(), bytes_.size());
    std::copy_n(bytes_.begin(), out.size(), out.begin());
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(out.size()));
  }

 private:
  Bytes bytes_;
};

StaticKey static_key(std::string_view text) {
  return StaticKey::from_private(X25519Private::copy_of(hex(text)));
}

NoiseHandshake make_side(const NoiseVector& vector, bool initiator, RandomSource& random) {
  NoiseOptions options;
  options.pattern = vector.pattern;
  options.initiator = initiator;
  options.prologue = hex(vector.prologue);
  const StaticKey ours = static_key(initiator ? vector.initiator_static : vector.responder_static);
  const StaticKey theirs = static_key(initiator ? vector.responder_static : vector.initiator_static);
  options.local = ours;
  if (vector.pattern == NoisePattern::kk_psk0 || (vector.pattern == NoisePattern::ik_psk2 && initiator))
    options.remote = theirs.public_key;
  if (!vector.psk.empty()) options.psk = Secret<32>::copy_of(hex(vector.psk));
  return NoiseHandshake::make(std::move(options), random).value();
}

void check_transport(const NoiseVector& vector, std::size_t first, const NoiseKeys& keys) {
  std::array<std::uint64_t, 2> counters{};
  for (std::size_t i = first; i < vector.messages.size(); ++i) {
    // Directions alternate through handshake and transport alike.
    const bool from_initiator = i % 2 == 0;
    std::array<std::uint8_t, 12> nonce{};
    nonce[4] = static_cast<std::uint8_t>(counters[from_initiator ? 0 : 1]++);
    const auto& key = from_initiator ? keys.initiator_to_responder : keys.responder_to_initiator;
    EXPECT_EQ(seal_chacha(key.view(), nonce, {}, hex(vector.messages[i].payload)).value(),
              hex(vector.messages[i].bytes));
  }
}

TEST(Noise, known_answers_of_all_patterns) {
  ASSERT_GE(kNoiseVectors.size(), 4U);
  for (const NoiseVector& vector : kNoiseVectors) {
    SCOPED_TRACE(protocol_name(vector.pattern));
    FixedBytes first(hex(vector.initiator_ephemeral)), second(hex(vector.responder_ephemeral));
    NoiseHandshake initiator = make_side(vector, true, first);
    NoiseHandshake responder = make_side(vector, false, second);
    std::size_t i = 0;
    for (; !initiator.finished(); ++i) {
      NoiseHandshake& from = i % 2 == 0 ? initiator : responder;
      NoiseHandshake& to = i % 2 == 0 ? responder : initiator;
      const Bytes payload = hex(vector.messages[i].payload);
      EXPECT_TRUE(from.my_turn());
      EXPECT_FALSE(to.my_turn());
      const std::size_t overhead = from.next_overhead();
      const Bytes message = from.write_message(payload).value();
      EXPECT_EQ(message, hex(vector.messages[i].bytes));
      EXPECT_EQ(message.size(), payload.size() + overhead);
      EXPECT_EQ(to.read_message(message).value(), payload);
    }
    ASSERT_TRUE(responder.finished());
    const NoiseKeys keys = initiator.keys();
    EXPECT_EQ(keys.handshake_hash, responder.keys().handshake_hash);
    if (!vector.handshake_hash.empty()) {
      EXPECT_EQ(to_bytes(keys.handshake_hash), hex(vector.handshake_hash));
    }
    check_transport(vector, i, keys);
    EXPECT_TRUE(initiator.gateway_secret().equals(responder.gateway_secret()));
    EXPECT_EQ(initiator.fingerprint(), responder.fingerprint());
  }
}

struct Pair {
  SeededRandom random{5};
  StaticKey near = StaticKey::random(random), far = StaticKey::random(random);
  Secret<32> psk = Secret<32>::random(random);

  NoiseOptions options(NoisePattern pattern, bool initiator) {
    NoiseOptions result;
    result.pattern = pattern;
    result.initiator = initiator;
    result.prologue = to_bytes(as_bytes(kNoisePrologue));
    result.local = initiator ? near : far;
    if (pattern == NoisePattern::kk_psk0 || (pattern == NoisePattern::ik_psk2 && initiator))
      result.remote = initiator ? far.public_key : near.public_key;
    if (pattern != NoisePattern::xx) result.psk = psk;
    return result;
  }
  NoiseHandshake make(NoiseOptions chosen) { return NoiseHandshake::make(std::move(chosen), random).value(); }
};

constexpr NoisePattern kPatterns[] = {NoisePattern::kk_psk0, NoisePattern::ik_psk2, NoisePattern::xx};

TEST(Noise, costs_96_144_and_192_bytes) {
  Pair pair;
  std::vector<std::size_t> totals;
  for (const NoisePattern pattern : kPatterns) {
    NoiseHandshake near = pair.make(pair.options(pattern, true)),
                   far = pair.make(pair.options(pattern, false));
    std::size_t total = 0;
    while (!near.finished()) {
      NoiseHandshake& from = near.my_turn() ? near : far;
      NoiseHandshake& to = near.my_turn() ? far : near;
      const Bytes message = from.write_message({}).value();
      total += message.size();
      ASSERT_TRUE(to.read_message(message).ok());
    }
    totals.push_back(total);
  }
  EXPECT_EQ(totals, (std::vector<std::size_t>{96, 144, 192}));
}

TEST(Noise, forged_and_cut_messages_do_not_stop_the_true_one) {
  Pair pair;
  for (const NoisePattern pattern : kPatterns) {
    NoiseHandshake near = pair.make(pair.options(pattern, true)),
                   far = pair.make(pair.options(pattern, false));
    const Bytes request{1, 2, 3};
    while (!near.finished()) {
      NoiseHandshake& from = near.my_turn() ? near : far;
      NoiseHandshake& to = near.my_turn() ? far : near;
      const bool authenticated = from.next_overhead() > 32;
      const Bytes message = from.write_message(request).value();
      for (std::size_t cut = 0; cut < (authenticated ? message.size() : 32); ++cut)
        EXPECT_FALSE(to.read_message(ByteView(message).first(cut)).ok());
      for (std::size_t i = 0; authenticated && i < message.size(); ++i) {
        Bytes forged = message;
        forged[i] ^= 1;
        EXPECT_FALSE(to.read_message(forged).ok()) << i;
      }
      EXPECT_EQ(to.read_message(message).value(), request);
    }
    EXPECT_TRUE(near.gateway_secret().equals(far.gateway_secret()));
  }
}

TEST(Noise, another_psk_prologue_or_static_key_is_refused) {
  Pair pair;
  for (const NoisePattern pattern : {NoisePattern::kk_psk0, NoisePattern::ik_psk2}) {
    const auto completes = [&](NoiseOptions near_options, NoiseOptions far_options) {
      NoiseHandshake near = pair.make(std::move(near_options)), far = pair.make(std::move(far_options));
      if (!far.read_message(near.write_message({}).value()).ok()) return false;
      return near.read_message(far.write_message({}).value()).ok();
    };
    const NoiseOptions near = pair.options(pattern, true), far = pair.options(pattern, false);
    EXPECT_TRUE(completes(near, far));
    NoiseOptions other = near;
    other.psk = Secret<32>::random(pair.random);
    EXPECT_FALSE(completes(other, far));
    other = near;
    other.prologue.push_back(0);
    EXPECT_FALSE(completes(other, far));
    other = near;
    other.remote = StaticKey::random(pair.random).public_key;
    EXPECT_FALSE(completes(other, far));
  }
}

TEST(Noise, xx_tells_both_keys_and_someone_between_changes_the_fingerprint) {
  Pair pair;
  NoiseHandshake near = pair.make(pair.options(NoisePattern::xx, true));
  NoiseHandshake far = pair.make(pair.options(NoisePattern::xx, false));
  NoiseHandshake to_near = pair.make(pair.options(NoisePattern::xx, false));
  NoiseHandshake to_far = pair.make(pair.options(NoisePattern::xx, true));
  const auto run = [](NoiseHandshake& a, NoiseHandshake& b) {
    ASSERT_TRUE(b.read_message(a.write_message({}).value()).ok());
    ASSERT_TRUE(a.read_message(b.write_message({}).value()).ok());
    ASSERT_TRUE(b.read_message(a.write_message({}).value()).ok());
  };
  run(near, to_near);
  run(to_far, far);
  EXPECT_NE(near.fingerprint(), far.fingerprint());
  NoiseHandshake honest_near = pair.make(pair.options(NoisePattern::xx, true));
  NoiseHandshake honest_far = pair.make(pair.options(NoisePattern::xx, false));
  run(honest_near, honest_far);
  EXPECT_EQ(honest_near.fingerprint(), honest_far.fingerprint());
  EXPECT_EQ(honest_near.remote(), pair.far.public_key);
  EXPECT_EQ(honest_far.remote(), pair.near.public_key);
  EXPECT_EQ(honest_near.fingerprint().size(), 39U);  // 8 groups of 4
}

TEST(Noise, remote_key_of_low_order_is_refused) {
  Pair pair;
  NoiseHandshake far = pair.make(pair.options(NoisePattern::xx, false));
  ASSERT_TRUE(far.read_message(Bytes(32, 0)).ok());  // XX reads the key, and mixes it when answering
  EXPECT_FALSE(far.write_message({}).ok());
}

TEST(Noise, missing_or_needless_keys_are_named) {
  Pair pair;
  NoiseOptions options = pair.options(NoisePattern::kk_psk0, true);
  options.remote.reset();
  EXPECT_EQ(NoiseHandshake::make(options, pair.random).error().kind, ErrorKind::invalid_argument);
  options = pair.options(NoisePattern::ik_psk2, false);
  options.psk.reset();
  EXPECT_FALSE(NoiseHandshake::make(options, pair.random).ok());
  options = pair.options(NoisePattern::xx, true);
  options.psk = pair.psk;
  EXPECT_FALSE(NoiseHandshake::make(options, pair.random).ok());
}

TEST(HandshakeStep, survives_the_wire_and_refuses_the_rest) {
  int accepted = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto step = HandshakeStep::decode(static_cast<std::uint8_t>(byte));
    if (!step) continue;
    ++accepted;
    EXPECT_EQ(step->encode(), byte);
  }
  EXPECT_EQ(accepted, 2 + 2 + 3);
  const Bytes frame = handshake_frame({NoisePattern::ik_psk2, 1}, Bytes{9, 9});
  const auto view = parse_frame(frame);
  ASSERT_TRUE(view && view->handshake);
  EXPECT_EQ(to_bytes(view->body), (Bytes{0x21, 9, 9}));
}

}  // namespace
}  // namespace ravine::gateway::security
