#include "gateway/security/noise.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

namespace ravine::gateway::security {
namespace {

using Tokens = std::vector<std::string_view>;

// Noise §7.5 and §9.4: each message's tokens, the initiator's first.
const std::vector<Tokens>& message_tokens(NoisePattern pattern) {
  static const std::vector<Tokens> kk_psk0 = {{"psk", "e", "es", "ss"}, {"e", "ee", "se"}};
  static const std::vector<Tokens> ik_psk2 = {{"e", "es", "s", "ss"}, {"e", "ee", "se", "psk"}};
  static const std::vector<Tokens> xx = {{"e"}, {"e", "ee", "s", "es"}, {"s", "se"}};
  return pattern == NoisePattern::kk_psk0 ? kk_psk0 : pattern == NoisePattern::ik_psk2 ? ik_psk2 : xx;
}

constexpr std::size_t kFingerprintBytes = 20;

std::array<std::uint8_t, 12> cipher_nonce(std::uint64_t counter) {
  std::array<std::uint8_t, 12> nonce{};
  for (std::size_t i = 0; i < 8; ++i) nonce[4 + i] = static_cast<std::uint8_t>(counter >> (8 * i));
  return nonce;
}

// Noise §4.3: HKDF with the chaining key as salt and nothing as info, `count` outputs of 32 bytes.
std::vector<Secret<32>> noise_hkdf(ByteView chaining_key, ByteView input, std::size_t count) {
  Hash extracted = hkdf_extract(chaining_key, input);
  Result<Bytes> bytes = hkdf_expand(extracted, {}, 32 * count);
  ensure(bytes.ok());
  std::vector<Secret<32>> outputs;
  outputs.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    outputs.push_back(Secret<32>::copy_of(ByteView(*bytes).subspan(32 * i, 32)));
  wipe(*bytes);
  wipe(extracted);
  return outputs;
}

std::string grouped_fingerprint(ByteView bytes) {
  std::string text;
  for (const char c : encode_base32(bytes.first(kFingerprintBytes))) {
    if (text.size() % 5 == 4) text.push_back(' ');
    text.push_back(c);
  }
  return text;
}

Error invalid(std::string message) {
  return {ErrorKind::invalid_argument, std::move(message)};
}

Error cut_off() {
  return {ErrorKind::unauthenticated, "handshake message: cut off"};
}

}  // namespace

std::string_view protocol_name(NoisePattern pattern) {
  switch (pattern) {
    case NoisePattern::kk_psk0:
      return "Noise_KKpsk0_25519_ChaChaPoly_SHA256";
    case NoisePattern::ik_psk2:
      return "Noise_IKpsk2_25519_ChaChaPoly_SHA256";
    case NoisePattern::xx:
      return "Noise_XX_25519_ChaChaPoly_SHA256";
  }
  return "";
}

StaticKey StaticKey::from_private(const X25519Private& key) {
  return {key, x25519_public(key)};
}

StaticKey StaticKey::random(RandomSource& random) {
  return from_private(X25519Private::random(random));
}

NoiseHandshake::NoiseHandshake(NoiseOptions options, RandomSource& random)
    : options_(std::move(options)), random_(&random) {
  // §5.2 InitializeSymmetric: the name itself when it fits the hash.
  const std::string_view name = protocol_name(options_.pattern);
  if (name.size() <= state_.hash.size()) {
    std::copy(name.begin(), name.end(), state_.hash.begin());
  } else {
    state_.hash = sha256(as_bytes(name));
  }
  state_.chaining_key = Secret<32>(state_.hash);
  state_.remote = options_.remote;
  mix_hash(state_, options_.prologue);
  const bool initiator = options_.initiator;
  const X25519Public mine = options_.local.public_key;
  const X25519Public theirs = options_.remote.value_or(X25519Public{});
  // Pre-messages, the initiator's first: KK knows both keys, IK the responder's.
  if (options_.pattern == NoisePattern::kk_psk0) mix_hash(state_, initiator ? mine : theirs);
  if (options_.pattern != NoisePattern::xx) mix_hash(state_, initiator ? theirs : mine);
}

Result<NoiseHandshake> NoiseHandshake::make(NoiseOptions options, RandomSource& random) {
  const bool needs_remote = options.pattern == NoisePattern::kk_psk0 ||
                            (options.pattern == NoisePattern::ik_psk2 && options.initiator);
  if (needs_remote != options.remote.has_value())
    return invalid(fmt::format("{}: the other side's static key is {}", protocol_name(options.pattern),
                               needs_remote ? "needed" : "learned in the handshake, not given"));
  if ((options.pattern != NoisePattern::xx) != options.psk.has_value())
    return invalid(fmt::format("{}: {}", protocol_name(options.pattern),
                               options.psk ? "takes no pre-shared key" : "needs a pre-shared key"));
  return NoiseHandshake(std::move(options), random);
}

std::size_t NoiseHandshake::steps() const {
  return message_tokens(options_.pattern).size();
}

bool NoiseHandshake::my_turn() const {
  return !finished() && (step_ % 2 == 0) == options_.initiator;
}

std::size_t NoiseHandshake::next_overhead() const {
  if (finished()) return 0;
  std::size_t size = 0;
  bool keyed = state_.key.has_value();
  for (const std::string_view token : message_tokens(options_.pattern)[step_]) {
    if (token == "e") {
      size += 32;
      keyed = keyed || uses_psk();
    } else if (token == "s") {
      size += 32 + (keyed ? kPolyTagSize : 0);
    } else {
      keyed = true;
    }
  }
  return size + (keyed ? kPolyTagSize : 0);
}

void NoiseHandshake::mix_hash(State& state, ByteView data) {
  Bytes joined(state.hash.begin(), state.hash.end());
  joined.insert(joined.end(), data.begin(), data.end());
  state.hash = sha256(joined);
}

void NoiseHandshake::mix_key(State& state, ByteView input) {
  const auto outputs = noise_hkdf(state.chaining_key.view(), input, 2);
  state.chaining_key = outputs[0];
  state.key = outputs[1];
  state.counter = 0;
}

void NoiseHandshake::mix_key_and_hash(State& state, ByteView input) {
  const auto outputs = noise_hkdf(state.chaining_key.view(), input, 3);
  state.chaining_key = outputs[0];
  mix_hash(state, outputs[1].view());
  state.key = outputs[2];
  state.counter = 0;
}

Result<Bytes> NoiseHandshake::encrypt_and_hash(State& state, ByteView plaintext) {
  Bytes out = to_bytes(plaintext);
  if (state.key) {
    Result<Bytes> sealed =
        seal_chacha(state.key->view(), cipher_nonce(state.counter++), state.hash, plaintext);
    if (!sealed) return sealed.error();
    out = std::move(*sealed);
  }
  mix_hash(state, out);
  return out;
}

Result<Bytes> NoiseHandshake::decrypt_and_hash(State& state, ByteView sealed) {
  Bytes out = to_bytes(sealed);
  if (state.key) {
    Result<Bytes> opened = open_chacha(state.key->view(), cipher_nonce(state.counter++), state.hash, sealed);
    if (!opened) return opened.error();
    out = std::move(*opened);
  }
  mix_hash(state, sealed);
  return out;
}

// A token's first letter is the initiator's key, its second the responder's.
Result<> NoiseHandshake::mix_shared(State& state, std::string_view token) const {
  const char mine = options_.initiator ? token[0] : token[1];
  const char theirs = options_.initiator ? token[1] : token[0];
  const std::optional<X25519Public>& remote = theirs == 'e' ? state.remote_ephemeral : state.remote;
  ensure(remote.has_value() && (mine == 's' || state.ephemeral.has_value()));
  const X25519Private& local = mine == 'e' ? state.ephemeral->private_key : options_.local.private_key;
  const Result<Secret<32>> shared = x25519_shared(local, *remote);
  if (!shared) return shared.error();
  mix_key(state, shared->view());
  return {};
}

Result<> NoiseHandshake::write_token(State& state, std::string_view token, ByteWriter& out) const {
  if (token == "e") {
    state.ephemeral = StaticKey::random(*random_);
    out.write(state.ephemeral->public_key);
    mix_hash(state, state.ephemeral->public_key);
    if (uses_psk()) mix_key(state, state.ephemeral->public_key);  // §9.2
  } else if (token == "s") {
    const Result<Bytes> sealed = encrypt_and_hash(state, options_.local.public_key);
    if (!sealed) return sealed.error();
    out.write(*sealed);
  } else if (token == "psk") {
    mix_key_and_hash(state, options_.psk->view());
  } else {
    return mix_shared(state, token);
  }
  return {};
}

Result<> NoiseHandshake::read_token(State& state, std::string_view token, ByteReader& in) const {
  if (token == "e") {
    state.remote_ephemeral.emplace();
    if (!in.read_into(*state.remote_ephemeral)) return cut_off();
    mix_hash(state, *state.remote_ephemeral);
    if (uses_psk()) mix_key(state, *state.remote_ephemeral);
  } else if (token == "s") {
    const ByteView sealed = in.read_view(32 + (state.key ? kPolyTagSize : 0));
    if (!in.ok()) return cut_off();
    const Result<Bytes> key = decrypt_and_hash(state, sealed);
    if (!key) return key.error();
    state.remote.emplace();
    std::copy(key->begin(), key->end(), state.remote->begin());
  } else if (token == "psk") {
    mix_key_and_hash(state, options_.psk->view());
  } else {
    return mix_shared(state, token);
  }
  return {};
}

Result<Bytes> NoiseHandshake::write_message(ByteView payload) {
  if (!my_turn()) return invalid("handshake: it is the other side's turn");
  if (payload.size() + next_overhead() > kMaxNoiseMessage)
    return invalid(fmt::format("handshake: a payload of {} bytes is too large", payload.size()));
  State state = state_;
  ByteWriter out;
  for (const std::string_view token : message_tokens(options_.pattern)[step_])
    if (auto written = write_token(state, token, out); !written) return written.error();
  const Result<Bytes> sealed = encrypt_and_hash(state, payload);
  if (!sealed) return sealed.error();
  out.write(*sealed);
  state_ = std::move(state);
  ++step_;
  return out.take();
}

Result<Bytes> NoiseHandshake::read_message(ByteView message) {
  if (finished() || my_turn()) return invalid("handshake: no message is expected from the other side");
  if (message.size() > kMaxNoiseMessage) return invalid("handshake: message of more than 65535 bytes");
  State state = state_;
  ByteReader in(message);
  for (const std::string_view token : message_tokens(options_.pattern)[step_])
    if (auto read = read_token(state, token, in); !read) return read.error();
  Result<Bytes> payload = decrypt_and_hash(state, in.rest());
  if (!payload) return payload.error();
  state_ = std::move(state);
  ++step_;
  return payload;
}

NoiseKeys NoiseHandshake::keys() const {
  ensure(finished());
  const auto outputs = noise_hkdf(state_.chaining_key.view(), {}, 2);
  return {outputs[0], outputs[1], state_.hash, state_.remote.value_or(X25519Public{})};
}

GatewaySecret NoiseHandshake::gateway_secret() const {
  const NoiseKeys split = keys();
  Bytes joined = to_bytes(split.initiator_to_responder.view());
  joined.insert(joined.end(), split.responder_to_initiator.view().begin(),
                split.responder_to_initiator.view().end());
  Hash extracted = hkdf_extract(split.handshake_hash, joined);
  GatewaySecret secret = expand_secret<32>(extracted, as_bytes("ravine gateway noise"));
  wipe(joined);
  wipe(extracted);
  return secret;
}

std::string NoiseHandshake::fingerprint() const {
  ensure(finished());
  return grouped_fingerprint(state_.hash);
}

std::string key_fingerprint(const X25519Public& key) {
  return grouped_fingerprint(sha256(key));
}

std::uint8_t HandshakeStep::encode() const {
  return static_cast<std::uint8_t>((static_cast<unsigned>(pattern) << 4) | (index & 15));
}

std::optional<HandshakeStep> HandshakeStep::decode(std::uint8_t byte) {
  const unsigned pattern = byte >> 4;
  if (pattern < 1 || pattern > 3) return std::nullopt;
  HandshakeStep step{static_cast<NoisePattern>(pattern), static_cast<std::uint8_t>(byte & 15)};
  if (step.index >= message_tokens(step.pattern).size()) return std::nullopt;
  return step;
}

Bytes handshake_frame(HandshakeStep step, ByteView message) {
  ByteWriter out;
  out.write_u8(static_cast<std::uint8_t>(Escape::handshake));
  out.write_u8(step.encode());
  out.write(message);
  return out.take();
}

}  // namespace ravine::gateway::security
